"""Element types in tasklets: how each is spelt, what numbers of it look like, and casts.

Elements of 16-bit floats are their bits: each operation widens them to float32, as ATen does, and
rounds its result once.
"""

from __future__ import annotations

import math
from typing import Any

import sympy
import torch

from dovetail.compiler.ops.sizes import size_code
from dovetail.errors import DovetailError

__all__ = ["cast_code", "computed_in", "is_computed", "literal", "type_name"]

_NAMES = {
    torch.float64: "dace.float64",
    torch.float32: "dace.float32",
    torch.int64: "dace.int64",
    torch.int32: "dace.int32",
    torch.int16: "dace.int16",
    torch.int8: "dace.int8",
    torch.uint64: "dace.uint64",
    torch.uint32: "dace.uint32",
    torch.uint16: "dace.uint16",
    torch.uint8: "dace.uint8",
    torch.bool: "dace.bool_",
}
#: Functions to and from float32.
_HALVES = {torch.float16: "half", torch.bfloat16: "bfloat"}


def is_computed(dtype: torch.dtype) -> bool:
    """Whether generated code computes elements of ``dtype``; others only calls do.

    >>> is_computed(torch.bfloat16), is_computed(torch.complex64)
    (True, False)
    """
    return dtype in _NAMES or dtype in _HALVES


def computed_in(dtype: torch.dtype) -> torch.dtype:
    """The type in which elements of ``dtype`` are computed.

    >>> computed_in(torch.float16), computed_in(torch.int8)
    (torch.float32, torch.int8)
    """
    return torch.float32 if dtype in _HALVES else dtype


def type_name(dtype: torch.dtype) -> str:
    """How a tasklet spells ``dtype``.

    >>> type_name(torch.float32)
    'dace.float32'
    """
    if dtype not in _NAMES:
        raise DovetailError(f"elements of {dtype} are not computed in generated code")
    return _NAMES[dtype]


def literal(value: Any, dtype: torch.dtype) -> str:
    """``value``, a number or an expression of sizes, in a tasklet, as an element of ``dtype``.

    >>> literal(0.5, torch.float32), literal(float("-inf"), torch.float32)
    ('dace.float32(0.5)', 'dace.float32(-dv_inf())')
    """
    if dtype in _HALVES:
        return cast_code(literal(value, torch.float32), torch.float32, dtype)
    name = type_name(dtype)
    if isinstance(value, sympy.Expr) and not value.is_number:
        return f"{name}({size_code(value)})"
    if dtype == torch.bool:
        return f"{name}({int(bool(value))})"
    if not dtype.is_floating_point:
        return f"{name}({int(value)})"
    number = float(value)
    if math.isinf(number):
        return f"{name}({'-' if number < 0 else ''}dv_inf())"
    return f"{name}(dv_nan())" if math.isnan(number) else f"{name}({number!r})"


def cast_code(word: str, old: torch.dtype, new: torch.dtype) -> str:
    """An expression of type ``old`` as one of type ``new``.

    >>> cast_code("x", torch.int32, torch.bfloat16)
    'dv_to_bfloat(dace.float32(x))'
    """
    if old == new:
        return word
    if old in _HALVES:
        return cast_code(f"dv_from_{_HALVES[old]}({word})", torch.float32, new)
    if new in _HALVES:
        return f"dv_to_{_HALVES[new]}({cast_code(word, old, torch.float32)})"
    if new == torch.bool:
        return f"({word} != 0)"
    return f"{type_name(new)}({word})"
