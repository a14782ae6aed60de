"""Native casts to integers with a scale against quantise and dequantise, bit for bit."""

from __future__ import annotations

import math

import pytest
import torch

import dovetail as dv
from dovetail.formats.integer import IntFormat
from dovetail.formats.quantization import dequantize, quantize
from dovetail.kernels import native
from dovetail.kernels.native_integers import fake_quantize
from native_cast_values import same

pytestmark = pytest.mark.skipif(not native.available(), reason="the native core is not built")


@pytest.fixture(autouse=True)
def restore():
    threads = torch.get_num_threads()
    yield
    native.set_isa(None)
    torch.set_num_threads(threads)


@pytest.mark.parametrize("dtype", [torch.float32, torch.float16, torch.bfloat16], ids=str)
@pytest.mark.parametrize("axis", [None, 0, 1, 2])
def test_fake_quantize(dtype, axis):
    generator = torch.Generator().manual_seed(4)
    x = (torch.randn(5, 33, 70, generator=generator) * 4).to(dtype)
    x.view(-1)[:5] = torch.tensor([math.nan, math.inf, -math.inf, -0.0, 1e-8]).to(dtype)
    shape = () if axis is None else (x.shape[axis],)
    scale = torch.rand(shape, generator=generator) / 8 + 0.01
    for name in ("int8", "uint8", "int4(affine)", "int16"):
        fmt = dv.format(name)
        assert isinstance(fmt, IntFormat)
        zero = torch.randint(-3, 4, shape, generator=generator, dtype=torch.int32)
        zero = zero.clamp(fmt.qmin, fmt.qmax) * int(fmt.affine)
        codes = quantize(x, fmt, scale, zero, axis)
        expected = dequantize(codes, scale, zero, axis, dtype)
        for level in native.levels():
            native.set_isa(level)
            y = fake_quantize(x, fmt, scale, zero, axis)
            assert same(y, expected)
        place = x.clone()
        assert fake_quantize(place, fmt, scale, zero, axis, out=place) is place
        assert same(place, expected)
    with pytest.raises(dv.DovetailError, match="2 scales for"):
        fake_quantize(x, IntFormat(4), torch.ones(2), torch.tensor(0), 0)
    with pytest.raises(dv.DovetailError, match="code range"):
        fake_quantize(x, IntFormat(4), torch.tensor(0.0), torch.tensor(0))
