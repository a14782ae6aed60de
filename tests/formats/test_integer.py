import pickle

import pytest
import torch

from dovetail import DovetailError
from dovetail.formats import IntFormat, format, format_names, register_format
from dovetail.formats.registry import _factories, _parsed


def _plain(name):
    return format(name) if "int" in name else None


@pytest.mark.parametrize(
    ("spelling", "qmin", "qmax", "dtype"),
    [
        ("int8", -127, 127, torch.int8),
        ("int8(full)", -128, 127, torch.int8),
        ("int8(affine)", -128, 127, torch.int8),
        ("uint8", 0, 255, torch.uint8),
        ("uint8(symmetric)", 0, 255, torch.uint8),
        ("int2", -1, 1, torch.int8),
        ("int16", -32767, 32767, torch.int16),
        ("uint16", 0, 65535, torch.int32),
        ("uint12", 0, 4095, torch.int16),
    ],
)
def test_codes(spelling, qmin, qmax, dtype):
    fmt = format(spelling)
    assert (fmt.qmin, fmt.qmax, fmt.code_dtype) == (qmin, qmax, dtype)


INTEGERS = [name for name in format_names() if isinstance(_plain(name), IntFormat)]


@pytest.mark.parametrize("name", INTEGERS)
@pytest.mark.parametrize("arguments", ["", "(dynamic)", "(per_tensor)", "(po2, channel=1)"])
def test_canonical_spelling_parses_back(name, arguments):
    if name.startswith("uint") and "po2" in arguments:
        arguments = "(symmetric, po2, channel=1)"
    fmt = format(name + arguments)
    assert format(repr(fmt)) == fmt
    assert hash(format(repr(fmt))) == hash(fmt)
    assert pickle.loads(pickle.dumps(fmt)) == fmt


@pytest.mark.parametrize(
    ("spelling", "message"),
    [
        ("int9x", "unknown format 'int9x'; did you mean 'int9'"),
        ("int17", "nearest is 'int16'"),
        ("int1", "nearest is 'int2'"),
        ("int8(afine)", "did you mean 'affine'"),
        ("int8(chanel=1)", "did you mean 'channel'"),
        ("int8(channel=x)", "channel is an axis number"),
        ("int8(affine, symmetric)", "exclude each other"),
        ("int8(affine, po2)", "no zero point"),
        ("int8(per_tensor, channel=0)", "exclude each other"),
        ("int8(", "int8("),
        (8, "a format is a spelling"),
    ],
)
def test_refusals_teach(spelling, message):
    with pytest.raises(DovetailError, match=message.replace("(", r"\(")):
        format(spelling)


def test_granularity_follows_the_slot():
    assert format("int8").axis_for("weight") == 0
    assert format("int8").axis_for("input") is None
    assert format("int8(per_tensor)").axis_for("weight") is None
    assert format("int8(channel=1)").axis_for("input") == 1


def test_a_registered_format_is_spelt_like_any_other():
    @register_format("nibble")
    def nibble(bits: int = 4):
        return IntFormat(bits)

    try:
        assert format("nibble") == IntFormat(4)
        assert format("nibble(3)") == IntFormat(3)
        with pytest.raises(DovetailError, match="nibble"):
            format("nibble(1, 2, 3)")
    finally:
        del _factories["nibble"]
        _parsed.cache_clear()
