"""Numbers that try native casts, and the check of every level against the torch form."""

from __future__ import annotations

import math

import torch
from torch import Tensor

from dovetail.formats.base import Format
from dovetail.formats.floating import FloatFormat
from dovetail.formats.realise import in_torch
from dovetail.formats.rounding import ROUNDINGS, Rounding
from dovetail.kernels import native
from dovetail.kernels.native_casts import cast_into

MODES = [*map(Rounding, ROUNDINGS), Rounding("Stochastic", 24), Rounding("Stochastic", 5)]
DTYPES = [torch.float32, torch.float64, torch.float16, torch.bfloat16]
SEED = 0x1234_5678_9ABC_DEF0

E4M3, E2M1 = FloatFormat(4, 3, specials="fn"), FloatFormat(2, 1, specials="finite")
UNSIGNED = FloatFormat(4, 4, bias=7, signed=False, magnitude=True, subnormals=False)
E8M0 = FloatFormat(8, 0, signed=False, zero=False, specials="fn")
ALL_KINDS = ["fp8_e4m3", "fixed(8, 4)", "posit(8, 1)", "mxfp4", "bfp(m=8, block=64)", "nvfp4"]
ALL_KINDS += ["nf4(block=64)", "fp8_e4m3(rounding=Stochastic)", "mxfp4(rounding=Stochastic(8))"]


def numbers(dtype: torch.dtype) -> Tensor:
    """All numbers of a 16-bit type; else every sign, exponent and leading bits, and random ones."""
    if dtype.itemsize == 2:
        return torch.arange(-(2**15), 2**15).to(torch.int16).view(dtype)
    generator = torch.Generator().manual_seed(0)
    top = torch.arange(0, 2**16, 1 if dtype == torch.float32 else 9).view(-1, 1) << 16
    low = torch.tensor([0, 1, 0x7FFF, 0x8000, 0x8001, 0xFFFF])
    grid = (top | low).flatten().to(torch.int32).view(torch.float32)
    scale = torch.randint(-140, 128, (20000,), generator=generator).to(dtype)
    wild = torch.randn(20000, generator=generator, dtype=dtype) * torch.exp2(scale)
    tame = torch.randn(20000, generator=generator, dtype=dtype)
    if dtype == torch.float32:
        return torch.cat([grid, tame, wild])
    exact = grid.double()
    far = torch.tensor(1e300, dtype=dtype)
    ends = torch.tensor([math.inf, -math.inf, math.nan, -0.0, 5e-324, 1.7e308], dtype=dtype)
    return torch.cat(
        [exact, exact.nextafter(far), exact.nextafter(-far), tame, wild, wild**7, ends]
    )


def blocks(dtype: torch.dtype, count: int = 24) -> Tensor:
    """Blocks of all magnitudes; with zeros of both signs, few NaN and infinities, one all zero."""
    generator = torch.Generator().manual_seed(1)
    shape = (count, 9, 70)
    low, high = (-24, 15) if dtype == torch.float16 else (-160, 128)
    scale = torch.randint(low, high, (count, 1, 1), generator=generator).double()
    near = torch.randint(-3, 3, shape, generator=generator).double()
    x = torch.randn(shape, generator=generator, dtype=torch.float64) * torch.exp2(scale + near)
    x = x.to(dtype)
    flat = x.view(-1)
    flat[::97], flat[5::101] = 0.0, -0.0
    flat[1003::20011], flat[2003::20021] = math.nan, math.inf
    x[0] = 0
    x[1, :, ::2] = torch.tensor([1.5, 3.0, 6.0, 12.0, 0.75]).repeat(7).to(dtype)  # ties
    return x


def same(a: Tensor, b: Tensor) -> bool:
    integer = {2: torch.int16, 4: torch.int32, 8: torch.int64}[a.dtype.itemsize]
    equal = (a.contiguous().view(integer) == b.contiguous().view(integer)) | (a.isnan() & b.isnan())
    return a.shape == b.shape and a.dtype == b.dtype and bool(equal.all())


def check(x: Tensor, fmt: Format, axis: int = -1) -> None:
    """Every level gives the bits of the pure-torch form."""
    expected = in_torch(x, fmt, axis, torch.tensor(SEED))
    for level in native.levels():
        native.set_isa(level)
        y = cast_into(x, fmt, axis, SEED)
        assert y is not None, f"{fmt} is not native for {x.dtype}"
        assert same(y, expected), f"{fmt!r} on {level}, axis {axis}, {x.dtype}"
