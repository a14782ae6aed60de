"""``Codes``: sizes, plain dictionaries, and refusal of what does not fit together."""

import dataclasses
import pickle

import pytest
import torch

from dovetail import DovetailError
from dovetail.formats.codes import Codes, decode, encode


@pytest.mark.parametrize(
    ("spelling", "bits"),
    [
        ("fp8_e4m3fn", 8.0),
        ("fp6_e3m2fn", 6.0),
        ("mxfp4", 4.25),
        ("mxfp6_e2m3", 6.25),
        ("bfp(m=8, block=64)", 8.125),
        ("nvfp4", 4.5 + 32 / 4096),
        ("nf4(block=64)", 4.5),
        ("int8", 8 + 32 / 4096),
        ("int4(channel=0)", 4 + 64 * 32 / 4096),
        ("uint4(channel=0)", 4 + 64 * 64 / 4096),
        ("same", 32.0),
    ],
)
def test_real_size(spelling: str, bits: float) -> None:
    codes = encode(torch.randn(64, 64), spelling)
    assert codes.bits_per_element == bits
    assert codes.nbytes == bits * 4096 / 8
    assert codes.nbytes == sum(t.nbytes for t in codes.tensors().values())
    assert f"{codes.nbytes} bytes" in repr(codes)


def test_scales_of_a_ragged_axis() -> None:
    codes = encode(torch.randn(4, 70, 3), "mxfp4", axis=1)
    assert codes.scale_shape == (4, 3, 3)
    assert codes.axis == 1
    found = codes.scale_codes()
    assert found is not None
    assert found.shape == (4, 3, 3)
    assert encode(torch.randn(3), "fp8_e5m2").scale_codes() is None
    assert encode(torch.randn(3, 2), "int8(channel=0)").scale_shape == (3,)


def test_frozen_and_picklable() -> None:
    codes = encode(torch.randn(4, 32), "mxfp4")
    with pytest.raises(dataclasses.FrozenInstanceError):
        codes.axis = 0  # type: ignore[misc]
    again = pickle.loads(pickle.dumps(codes))
    assert torch.equal(decode(again), decode(codes))


def test_empty() -> None:
    assert encode(torch.empty(0, 4), "mxfp4").bits_per_element == 0.0


def test_same_has_no_codes_of_its_own() -> None:
    with pytest.raises(DovetailError, match="bytes are the tensor's"):
        encode(torch.ones(3), "same").element_codes()


@pytest.mark.parametrize(
    ("spelling", "change", "message"),
    [
        ("mxfp4", {"format": "mxfp5"}, "unknown format 'mxfp5'; did you mean 'mxfp4'"),
        ("mxfp4", {"scales": None}, "'mxfp4': scales is missing"),
        ("mxfp4", {"axis": None}, "axis of its blocks is missing"),
        ("mxfp4", {"axis": 2}, "axis=2 is not an axis"),
        ("mxfp4", {"shape": [3, 32]}, "codes of shape .3, 32. are 48 bytes .uint8., not .64,."),
        ("mxfp4", {"scales": torch.zeros(9, dtype=torch.uint8)}, "scales .* are 4 bytes"),
        ("mxfp4", {"codes": torch.zeros(64)}, "torch.float32: damaged"),
        ("mxfp4", {"tensor_scale": torch.ones(())}, "tensor_scale is not part of this format"),
        ("nvfp4", {"tensor_scale": None}, "tensor_scale is missing"),
        ("uint8", {"zero_points": None}, "zero_points is missing"),
        ("int8(channel=0)", {"scales": torch.ones(3)}, "scales for axis 0 of shape"),
        ("int8", {"scales": torch.ones(4)}, "scales for axis None"),
        ("fp8_e4m3fn", {"dtype": "int8"}, "unknown dtype 'int8'"),
        (
            "fp8_e4m3fn",
            {"code": 1},
            "unknown key of an encoded tensor 'code'; did you mean 'codes'",
        ),
        ("fp8_e4m3fn", {"codes": None}, "'codes' is missing"),
    ],
)
def test_what_does_not_fit_is_refused(
    spelling: str, change: dict[str, object], message: str
) -> None:
    saved = {**encode(torch.randn(4, 32), spelling).to_dict(), **change}
    saved = {key: value for key, value in saved.items() if value is not None}
    with pytest.raises(DovetailError, match=message):
        Codes.from_dict(saved)
