"""Values as another type."""

from __future__ import annotations

from typing import Any

import torch
from torch import Tensor

from dovetail.compiler.onnx.registry import operator
from dovetail.compiler.onnx.types import NARROW, dtype_of, element_type, limits, type_name
from dovetail.errors import DovetailError
from dovetail.formats import cast as rounded
from dovetail.formats import format as format_of

__all__ = ["cast_to"]

_NAMES = {
    "FLOAT8E4M3FN": "fp8_e4m3fn",
    "FLOAT8E4M3FNUZ": "fp8_e4m3fnuz",
    "FLOAT8E5M2": "fp8_e5m2",
    "FLOAT8E5M2FNUZ": "fp8_e5m2fnuz",
    "FLOAT4E2M1": "fp4_e2m1fn",
}


@operator("Cast", 6)
def cast(x: Tensor, *, to: int, saturate: int = 1, round_mode: str = "up") -> Tensor:
    """Floats to the nearest, integers by their lowest bits."""
    return cast_to(x, to, bool(saturate), round_mode)


@operator("CastLike", 15)
def cast_like(
    x: Tensor, like: Tensor, *, saturate: int = 1, round_mode: str = "up", node: Any
) -> Tensor:
    """To the second input's type."""
    to = node.types.get(1, element_type(like.dtype))
    return cast_to(x, to, bool(saturate), round_mode)


def cast_to(x: Tensor, to: int, saturate: bool = True, round_mode: str = "up") -> Tensor:
    """``x`` in element type ``to``.

    Narrow floats round to nearest, ties to even, and saturate or not; integers of less than a byte
    keep their lowest bits.

    >>> cast_to(torch.tensor([1.2, 500.0]), 17)
    tensor([  1.2500, 448.0000], dtype=torch.float8_e4m3fn)
    >>> cast_to(torch.tensor([9, -1], dtype=torch.int8), 22)
    tensor([-7, -1], dtype=torch.int8)
    """
    name, dtype = type_name(to), dtype_of(to)
    if name == "FLOAT8E8M0":
        return _power_of_two(x, saturate, round_mode)
    if name in _NAMES:
        return _narrow_float(x, name, dtype, saturate)
    if name in NARROW:
        return _narrow_integer(x, to, dtype)
    if dtype == torch.bool:
        return x != 0
    if not dtype.is_floating_point and x.is_floating_point() and x.dtype.itemsize == 1:
        x = x.float()
    if dtype in (torch.uint16, torch.uint32, torch.uint64) and x.is_floating_point():
        return x.to(torch.int64).to(dtype)
    return x.to(dtype)


def _narrow_float(x: Tensor, name: str, dtype: torch.dtype, saturate: bool) -> Tensor:
    wide = x if x.dtype in (torch.float32, torch.float64) else x.float()
    saturation = "SatFinite" if saturate else "SatNone"
    result: Tensor = rounded(wide, format_of(f"{_NAMES[name]}(saturation={saturation})"))
    return result.to(dtype)


def _power_of_two(x: Tensor, saturate: bool, round_mode: str) -> Tensor:
    """Only the exponent is kept: of the power above, below or next to the value."""
    mantissa, exponent = torch.frexp(x.float())
    # x = mantissa 2**exponent with the mantissa in [0.5, 1): a power of two where it is 0.5.
    above = {"up": mantissa > 0.5, "down": mantissa > 1, "nearest": mantissa >= 0.75}[round_mode]
    code = exponent - 1 + above.int() + 127
    over = code > 254
    code = code.clamp(0, 254)
    nan = x.isnan() | (x < 0)
    infinite = x.isinf() & (x > 0)
    code = torch.where(infinite, 254 if saturate else 255, code)
    if not saturate:
        code = torch.where(over, 255, code)
    code = torch.where(x == 0, 0, code)
    return torch.where(nan, 255, code).to(torch.uint8).view(torch.float8_e8m0fnu)


def _narrow_integer(x: Tensor, to: int, dtype: torch.dtype) -> Tensor:
    range_ = limits(to)
    assert range_ is not None
    low, high = range_
    count = high - low + 1
    codes = x.float() if x.is_floating_point() and x.dtype.itemsize == 1 else x
    return ((codes.to(torch.int64) - low) % count + low).to(dtype)


@operator("BitCast", 26)
def bit_cast(x: Tensor, *, to: int) -> Tensor:
    """The same bits, of a type of the same width."""
    if type_name(to) in NARROW:
        raise DovetailError(f"bits of {type_name(to)} are not held as such; supported are bytes")
    return x.view(dtype_of(to))
