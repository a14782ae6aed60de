"""Arrays and indices of an SDFG: types, and one element of an array as a memlet."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

import sympy
import torch

from dovetail.compiler.engine import load_dace
from dovetail.compiler.groups.layout import Dim
from dovetail.compiler.groups.model import Access, Index
from dovetail.errors import DovetailError

dace = load_dace()

__all__ = ["digit", "dtype_of", "element", "index_code", "span", "symbol"]

_TYPES = {
    torch.float64: dace.float64,
    torch.float32: dace.float32,
    torch.float16: dace.uint16,  # its bits, as those of the other narrow floats
    torch.bfloat16: dace.uint16,
    torch.float8_e4m3fn: dace.uint8,
    torch.float8_e4m3fnuz: dace.uint8,
    torch.float8_e5m2: dace.uint8,
    torch.float8_e5m2fnuz: dace.uint8,
    torch.float8_e8m0fnu: dace.uint8,
    torch.int64: dace.int64,
    torch.int32: dace.int32,
    torch.int16: dace.int16,
    torch.int8: dace.int8,
    torch.uint64: dace.uint64,
    torch.uint32: dace.uint32,
    torch.uint16: dace.uint16,
    torch.uint8: dace.uint8,
    torch.bool: dace.bool_,
    torch.complex64: dace.complex64,
    torch.complex128: dace.complex128,
}

_symbols: dict[str, Any] = {}


def dtype_of(dtype: torch.dtype) -> Any:
    """DaCe's type of torch's ``dtype``.

    >>> dtype_of(torch.float32).ctype
    'float'
    """
    if dtype not in _TYPES:
        raise DovetailError(f"tensors of {dtype} have no type in generated code")
    return _TYPES[dtype]


def symbol(name: str) -> Any:
    """The integer symbol ``name``: a map's parameter or a size."""
    if name not in _symbols:
        _symbols[name] = dace.symbolic.symbol(name)
    return _symbols[name]


def _sized(value: Dim) -> Any:
    """A size with torch's symbols replaced by DaCe's."""
    if isinstance(value, sympy.Basic):
        return value.subs({s: symbol(str(s)) for s in value.free_symbols})
    return value


def _position(strides: Sequence[Dim], offset: Dim, index: Sequence[Any]) -> Any:
    made = sympy.Integer(offset) if isinstance(offset, int) else _sized(offset)
    for stride, place in zip(strides, index, strict=True):
        if stride != 0:
            made = made + _sized(stride) * place
    return made


def digit(number: Any, step: Any, count: Any, *, first: bool) -> Any:
    """``number // step % count`` of a number that is not negative; no remainder for the ``first``
    digit, which has none before it.

    >>> digit(symbol("p"), 3, 4, first=True)
    int_floor(p, 3)
    """
    floor = dace.symbolic.int_floor
    place = number if step == 1 else floor(number, step)
    return place if first else place - floor(number, step * count) * count


def element(access: Access, index: Sequence[Any]) -> Any:
    """The memlet of one element, at the values ``index`` of the group's dimensions."""
    place = _position(access.strides, access.offset, index)
    return dace.Memlet(data=access.buffer, subset=dace.subsets.Range([(place, place, 1)]))


def span(data: str, size: Dim) -> Any:
    """The memlet of a whole array."""
    return dace.Memlet(data=data, subset=dace.subsets.Range([(0, _sized(size) - 1, 1)]))


def index_code(index: Index, places: Sequence[Any]) -> str:
    """A number made of the index, in a tasklet."""
    made = _position(index.strides, index.offset, places)
    return f"dace.int64({dace.symbolic.symstr(made, cpp_mode=False)})"
