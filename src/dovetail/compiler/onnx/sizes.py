"""Arithmetic on shapes: what a graph computes of sizes stays numbers, and is traced as such.

A size is a Python number; a shape is a tuple of them. An operator all of whose inputs are such is
computed here where it has an entry, so that `Shape -> Gather -> Concat -> Reshape` never makes a
tensor, and a symbolic dimension stays symbolic under `torch.export` and `torch.compile`.
"""

from __future__ import annotations

import math
import operator as python
from collections.abc import Callable, Sequence
from typing import Any

import torch
from torch import Tensor

__all__ = ["LIMIT", "SIZES", "as_tensor", "is_size", "known"]

#: Constants of more elements than this are tensors, whatever they are for.
LIMIT = 32

Size = Any  # int, float, bool, their symbolic forms, or a tuple of them
#: Given the inputs and attributes of an operator: its result, or ``NotImplemented``.
SIZES: dict[str, Callable[..., Size]] = {}


def is_size(value: Any) -> bool:
    """Whether it is numbers, and not a tensor or a sequence of them.

    >>> is_size((1, 2)), is_size(3), is_size(torch.ones(2)), is_size([torch.ones(2)])
    (True, True, False, False)
    """
    return not isinstance(value, (Tensor, list)) and value is not None


def as_tensor(value: Size, device: torch.device | None = None) -> Tensor:
    """The tensor that ONNX means: int64, float32 or bool.

    >>> as_tensor((1, 2)), as_tensor(2.0), as_tensor(())
    (tensor([1, 2]), tensor(2.), tensor([], dtype=torch.int64))
    """
    first = (value[0] if value else 0) if isinstance(value, tuple) else value
    dtype = torch.int64
    if isinstance(first, (bool, torch.SymBool)):
        dtype = torch.bool
    elif isinstance(first, (float, torch.SymFloat)):
        dtype = torch.float32
    return torch.tensor(value, dtype=dtype, device=device)


def known(value: Tensor) -> Size:
    """A constant as numbers, or ``None`` where it is too large or of another type."""
    if value.dtype not in (torch.int64, torch.bool) or value.dim() > 1 or value.numel() > LIMIT:
        return None
    return tuple(value.tolist()) if value.dim() else value.item()


def _size(name: str) -> Callable[[Callable[..., Size]], Callable[..., Size]]:
    def register(function: Callable[..., Size]) -> Callable[..., Size]:
        SIZES[name] = function
        return function

    return register


def _each(function: Callable[..., Any], *values: Size) -> Size:
    """The function of scalars, shapes of one length and shapes of one element, broadcast."""
    lengths = {len(v) for v in values if isinstance(v, tuple)}
    if not lengths:
        return function(*values)
    longest = max(lengths) if 0 not in lengths else 0
    if lengths - {1, longest}:
        return NotImplemented
    rows = [v if isinstance(v, tuple) else (v,) for v in values]
    rows = [row * longest if len(row) == 1 else row for row in rows]
    return tuple(function(*items) for items in zip(*rows, strict=True))


def _quotient(a: Any, b: Any) -> Any:
    """Integers are divided towards zero; sizes are not negative."""
    if isinstance(a, (float, torch.SymFloat)):
        return a / b
    return a // b if a >= 0 and b > 0 else -(-a // b)


def _elementwise(function: Callable[..., Any]) -> Callable[..., Size]:
    return lambda *values: _each(function, *values)


SIZES.update(
    {
        "Add": _elementwise(python.add),
        "Sub": _elementwise(python.sub),
        "Mul": _elementwise(python.mul),
        "Div": _elementwise(_quotient),
        "Neg": _elementwise(python.neg),
        "Equal": _elementwise(python.eq),
        "Less": _elementwise(python.lt),
        "LessOrEqual": _elementwise(python.le),
        "Greater": _elementwise(python.gt),
        "GreaterOrEqual": _elementwise(python.ge),
        "Not": _elementwise(python.not_),
        "And": _elementwise(lambda a, b: a and b),
        "Or": _elementwise(lambda a, b: a or b),
        "Floor": _elementwise(lambda a: float(math.floor(a))),
        "Ceil": _elementwise(lambda a: float(math.ceil(a))),
        "Where": _elementwise(lambda c, a, b: a if c else b),
        "Identity": lambda value: value,
    }
)


@_size("Max")
def _max(*values: Size) -> Size:
    return _each(torch.sym_max, *values) if len(values) == 2 else NotImplemented


@_size("Min")
def _min(*values: Size) -> Size:
    return _each(torch.sym_min, *values) if len(values) == 2 else NotImplemented


@_size("Mod")
def _mod(a: Size, b: Size, fmod: int = 0) -> Size:
    return NotImplemented if fmod else _each(python.mod, a, b)


@_size("Cast")
def _cast(value: Size, to: int, **_: Any) -> Size:
    """To int64, float32 and bool; the other types are only tensors'."""
    kind: dict[int, Callable[[Any], Any]] = {1: torch.sym_float, 7: torch.sym_int, 9: bool}
    return _each(kind[to], value) if to in kind else NotImplemented


@_size("Concat")
def _concat(*values: Size, axis: int = 0) -> Size:
    return sum(values, ()) if all(isinstance(v, tuple) for v in values) else NotImplemented


@_size("Gather")
def _gather(data: Size, indices: Size, axis: int = 0) -> Size:
    if not isinstance(data, tuple):
        return NotImplemented
    return _each(lambda at: data[at], indices)


@_size("Slice")
def _slice(data: Size, starts: Size, ends: Size, axes: Size = None, steps: Size = None) -> Size:
    if not isinstance(data, tuple) or len(starts) != 1:
        return NotImplemented
    start, end, step = starts[0], ends[0], (steps or (1,))[0]
    if end < -len(data):
        end = None if step < 0 else 0
    return data[start:end:step]


@_size("Unsqueeze")
def _unsqueeze(data: Size, axes: Sequence[int] = ()) -> Size:
    axes = axes if isinstance(axes, (tuple, list)) else (axes,)
    return NotImplemented if isinstance(data, tuple) or len(axes) != 1 else (data,)


@_size("Squeeze")
def _squeeze(data: Size, axes: Sequence[int] | None = None) -> Size:
    if not isinstance(data, tuple):
        return data
    return data[0] if len(data) == 1 else (data if axes is None else NotImplemented)


@_size("Reshape")
def _reshape(data: Size, shape: Size, allowzero: int = 0) -> Size:
    flat = data if isinstance(data, tuple) else (data,)
    if shape in ((-1,), (len(flat),)):
        return flat
    return flat[0] if shape == () and len(flat) == 1 else NotImplemented


@_size("ReduceProd")
def _prod(data: Size, axes: Any = None, keepdims: int = 1, noop_with_empty_axes: int = 0) -> Size:
    if not isinstance(data, tuple) or (noop_with_empty_axes and not axes):
        return NotImplemented
    product = math.prod(data)
    return (product,) if keepdims else product


@_size("ReduceSum")
def _sum(data: Size, axes: Any = None, keepdims: int = 1, noop_with_empty_axes: int = 0) -> Size:
    if not isinstance(data, tuple) or (noop_with_empty_axes and not axes):
        return NotImplemented
    total = sum(data)
    return (total,) if keepdims else total


@_size("ConstantOfShape")
def _constant(shape: Size, value: int | None = None) -> Size:
    """A shape of as many equal sizes as a rank says."""
    if value is None or len(shape) != 1:
        return NotImplemented
    length = shape[0]
    return (value,) * length if isinstance(length, int) and length <= LIMIT else NotImplemented


@_size("Range")
def _range(start: Size, limit: Size, delta: Size, **_: Any) -> Size:
    """A short one of known integers: the axes of a tensor, say."""
    ends = (start, limit, delta)
    if not all(type(end) is int for end in ends) or not delta:
        return NotImplemented
    numbers = range(start, limit, delta)
    return tuple(numbers) if len(numbers) <= LIMIT else NotImplemented
