"""The core quantises and dequantises as torch does, alone and around a product, bit for bit."""

from __future__ import annotations

from functools import cache

import pytest
import torch

from dovetail.kernels import native
from dovetail.kernels.geometry import LINEAR, Geometry
from native_macs import codes, loop, mac_of

pytestmark = pytest.mark.skipif(not native.available(), reason="the native core is not built")


SPECIALS = [0.0, -0.0, 0.5, 1.5, -0.5, -2.5, 1e-45, 3e38, float("inf"), float("-inf")]


@pytest.mark.parametrize(
    ("zero_point", "qmin", "qmax", "dtype"),
    [
        (0, -127, 127, torch.int8),
        (7, -128, 127, torch.int8),
        (128, 0, 255, torch.uint8),
        (0, -7, 7, torch.int8),
        (-900, -1000, 2000, torch.int16),
        (0, 0, 65535, torch.int32),
    ],
)
@pytest.mark.parametrize("threads", [1, 2])
@pytest.mark.usefixtures("as_many_threads_afterwards")
def test_quantize_equals_torch(level, threads, zero_point, qmin, qmax, dtype):
    torch.set_num_threads(threads)
    generator = torch.Generator().manual_seed(0)
    x = torch.cat([torch.randn(70_001, generator=generator) * 90, torch.tensor(SPECIALS)])
    x = torch.cat([x, torch.arange(-300, 300) / 2])  # ties
    for scale in (1.0, 0.03, 0.7, 1e-30, 1e30):
        s = torch.tensor(scale)
        expected = torch.clamp(torch.round(x / s) + zero_point, qmin, qmax).to(dtype)
        assert torch.equal(
            native.quantize(x, scale, zero_point, qmin, qmax, out_dtype=dtype), expected
        )
    nan = native.quantize(torch.full((3,), torch.nan), 1.0, zero_point, qmin, qmax, out_dtype=dtype)
    assert nan.tolist() == [zero_point] * 3


@pytest.mark.parametrize("axis", [0, 1, -1])
def test_quantize_per_channel(level, axis):
    x = torch.randn(3, 5, 7, generator=torch.Generator().manual_seed(1)) * 50
    size = x.shape[axis]
    scale, zero = torch.rand(size) + 0.1, torch.arange(size, dtype=torch.int32)
    view = [-1 if i == axis % 3 else 1 for i in range(3)]
    expected = torch.clamp(torch.round(x / scale.view(view)) + zero.view(view), -128, 127)
    assert torch.equal(native.quantize(x, scale, zero, -128, 127, axis), expected.to(torch.int8))


@cache
def quantized_cases(kind: str, zero_point: int, biased: bool):
    """Multiplications, their operands, and what the spelt-out computation makes of them."""
    generator, cases = torch.Generator().manual_seed(2), []
    for x_shape, w_shape, geometry in (
        ((37, 50), (41, 50), LINEAR),
        ((2, 3, 20), (5, 20), LINEAR),
        ((3, 6, 9, 8), (10, 6, 3, 3), Geometry.conv(2, padding=1)),
        ((2, 6, 9, 8), (6, 1, 3, 3), Geometry.conv(2, padding=1, groups=6, stride=2)),
        ((2, 6, 9, 18), (12, 1, 3, 3), Geometry.conv(2, padding=1, groups=6)),
        ((2, 5, 3, 3), (12, 5, 3, 3), Geometry.conv(2)),
    ):
        mac, table = mac_of(kind, True, linear=not geometry.spatial or w_shape[1] == 1)
        x, w = torch.randn(x_shape, generator=generator) * 40, codes(w_shape, True, 5)
        out_scale = torch.rand(w_shape[0], generator=generator)
        bias = torch.randn(w_shape[0], generator=generator) if biased else None
        q = torch.clamp(torch.round(x / 0.7) + zero_point, -127, 127).to(torch.int8)
        wsum = w.reshape(w_shape[0], -1).sum(1)
        sums = torch.from_numpy(loop(table, q, w, geometry, zero_point))
        channel = 1 if geometry.spatial else sums.dim() - 1
        shape = [-1 if i == channel else 1 for i in range(sums.dim())]
        expected = (sums - zero_point * wsum.view(shape)).float() * out_scale.view(shape)
        if bias is not None:
            expected = expected + bias.view(shape)
        cases.append((mac, geometry, x, w, out_scale, bias, wsum, expected))
    return cases


@pytest.mark.parametrize("kind", ["rank1", "rank5", "classes1", "pairs", "wide"])
@pytest.mark.parametrize("zero_point", [0, -9])
@pytest.mark.parametrize("biased", [True, False])
@pytest.mark.usefixtures("as_many_threads_afterwards")
def test_quantized_is_quantise_multiply_dequantise(level, kind, zero_point, biased):
    """Each float step rounds on its own, so the bits are those of the spelt-out computation."""
    torch.set_num_threads(1 if biased == bool(zero_point) else 2)
    for mac, geometry, x, w, scales, bias, wsum, expected in quantized_cases(
        kind, zero_point, biased
    ):
        packed = mac.pack(w, geometry)
        got = mac.quantized(
            x, packed, scale=0.7, zero_point=zero_point, qmin=-127, qmax=127,
            out_scale=scales, bias=bias,
        )  # fmt: skip
        assert torch.equal(got, expected)
        assert torch.equal(packed.wsum.long(), wsum.long())
