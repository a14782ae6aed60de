"""Elements chosen and put by index."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

import torch
import torch.nn.functional as F
from torch import Tensor

from dovetail.compiler.onnx.operators.widened import widened
from dovetail.compiler.onnx.registry import operator
from dovetail.compiler.onnx.types import dtype_of
from dovetail.errors import DovetailError

_REDUCE = {"add": "sum", "mul": "prod", "max": "amax", "min": "amin"}


def _positive(indices: Tensor, size: int) -> Tensor:
    return torch.where(indices < 0, indices + size, indices)


@operator("Gather", weights=(0,))
def gather(data: Tensor, indices: Tensor, *, axis: int = 0) -> Tensor:
    """Slices along an axis; rows of a table of floats are an embedding."""
    places = _positive(indices.long(), data.shape[axis])
    if axis == 0 and data.dim() == 2 and data.is_floating_point():
        return F.embedding(places, data)
    if indices.dim() == 0:
        return data.select(axis, int(indices)) if indices.is_cpu else _taken(data, places, axis)
    return _taken(data, places, axis)


def _taken(data: Tensor, places: Tensor, axis: int) -> Tensor:
    axis %= data.dim()
    found = data.index_select(axis, places.reshape(-1))
    return found.reshape(*data.shape[:axis], *places.shape, *data.shape[axis + 1 :])


@operator("GatherElements", 11)
def gather_elements(data: Tensor, indices: Tensor, *, axis: int = 0) -> Tensor:
    """One element for each index."""
    return data.gather(axis, _positive(indices.long(), data.shape[axis]))


@operator("GatherND", 11)
def gather_nd(data: Tensor, indices: Tensor, *, batch_dims: int = 0) -> Tensor:
    """Slices at tuples of indices."""
    return data[_places(data, indices.long(), batch_dims)]


def _places(data: Tensor, indices: Tensor, batch: int = 0) -> tuple[Tensor, ...]:
    """The tuple that indexes ``data``, its leading ``batch`` axes walked in step."""
    rank = indices.dim() - 1
    steps = [
        torch.arange(n, device=indices.device).reshape([n if e == d else 1 for e in range(rank)])
        for d, n in enumerate(data.shape[:batch])
    ]
    return (*steps, *indices.unbind(-1))


@operator("ScatterElements", 11)
@operator("Scatter", 9)
def scatter_elements(
    data: Tensor, indices: Tensor, updates: Tensor, *, axis: int = 0, reduction: str = "none"
) -> Tensor:
    """The data with elements replaced, or combined."""
    places = _positive(indices.long(), data.shape[axis])
    if reduction == "none":
        return data.scatter(axis, places, updates)
    return data.scatter_reduce(axis, places, updates, _REDUCE[reduction])


@operator("ScatterND", 11)
def scatter_nd(
    data: Tensor, indices: Tensor, updates: Tensor, *, reduction: str = "none"
) -> Tensor:
    """The data with slices replaced, or combined."""
    places = indices.long()
    if reduction == "none":
        return data.index_put(_places(data, places), updates)
    if reduction == "add":
        return data.index_put(_places(data, places), updates, accumulate=True)
    # The other reductions go through one flat axis of slices.
    depth = places.shape[-1]
    sizes = data.shape[:depth]
    flat = torch.zeros_like(places[..., 0])
    for d, size in enumerate(sizes):
        flat = flat * size + _positive(places[..., d], size)
    rows = data.reshape(sizes.numel(), -1)
    new = updates.reshape(flat.numel(), -1)
    at = flat.reshape(-1, 1).expand_as(new)
    return rows.scatter_reduce(0, at, new, _REDUCE[reduction]).reshape(data.shape)


@operator("Slice")
def slice1(
    x: Tensor, *, starts: Sequence[int], ends: Sequence[int], axes: Sequence[int] | None = None
) -> Tensor:
    """Ranges of axes."""
    return slice_(x, starts, ends, axes)


@operator("Slice", 10, static=(1, 2, 3, 4))
def slice_(
    x: Tensor,
    starts: Sequence[int],
    ends: Sequence[int],
    axes: Sequence[int] | None = None,
    steps: Sequence[int] | None = None,
) -> Tensor:
    """Ranges of axes, backwards too."""
    axes = axes if axes is not None else range(len(starts))
    for at, axis in enumerate(axes):
        step = steps[at] if steps else 1
        if step > 0:
            index: Any = slice(starts[at], ends[at], step)
            x = x[(slice(None),) * (axis % x.dim()) + (index,)]
        else:
            x = _backwards(x, axis, starts[at], ends[at], step)
    return x


def _backwards(x: Tensor, axis: int, start: int, end: int, step: int) -> Tensor:
    places = range(x.shape[axis])[start : None if end < -x.shape[axis] else end : step]
    return x.index_select(axis, torch.tensor(list(places), dtype=torch.long, device=x.device))


@operator("OneHot", 9, static=(1,))
def one_hot(indices: Tensor, depth: Any, values: Tensor, *, axis: int = -1) -> Tensor:
    """``values[1]`` at each index and ``values[0]`` elsewhere; indices outside have none."""
    count = int(depth[0] if isinstance(depth, list) else depth)
    places = _positive(indices.long(), count)
    numbers = torch.arange(count, device=indices.device)
    hot = places.unsqueeze(-1) == numbers
    return torch.where(hot, values[1], values[0]).movedim(-1, axis)


@operator("NonZero", 9)
def non_zero(x: Tensor) -> Tensor:
    """The indices of what is not zero, a column each."""
    return x.nonzero().t()


@operator("Compress", 9)
def compress(x: Tensor, condition: Tensor, *, axis: int | None = None) -> Tensor:
    """The slices for which the condition holds."""
    x, at = (x.reshape(-1), 0) if axis is None else (x, axis)
    return x.index_select(at, condition.nonzero().squeeze(1))


@operator("Unique", 11)
@widened
def unique(
    x: Tensor, *, axis: int | None = None, sorted: int = 1
) -> tuple[Tensor, Tensor, Tensor, Tensor]:
    """Distinct slices, where each is first, which each was, and how many."""
    at = 0 if axis is None else axis
    x = x.reshape(-1) if axis is None else x
    values, inverse, counts = torch.unique(x, return_inverse=True, return_counts=True, dim=at)
    places = torch.arange(inverse.numel() - 1, -1, -1, device=x.device)
    first = torch.empty_like(counts).scatter_(0, inverse.flip(0), places)
    if not sorted:
        order = first.argsort()
        rank = torch.empty_like(order).scatter_(0, order, torch.arange(order.numel()))
        values, inverse = values.index_select(at, order), rank[inverse]
        counts, first = counts[order], first[order]
    return values, first, inverse, counts


@operator("TensorScatter", 24)
def tensor_scatter(
    cache: Tensor,
    update: Tensor,
    at: Tensor | None = None,
    *,
    axis: int = -2,
    mode: str = "linear",
) -> Tensor:
    """A cache with each sample's update written from its index on, around its end if circular."""
    batch, axis, length = cache.shape[0], axis % cache.dim(), update.shape[axis]
    starts = at if at is not None else cache.new_zeros(batch, dtype=torch.long)
    places = starts.reshape(-1, 1) + torch.arange(length, device=cache.device)
    if mode == "circular":
        places = places % cache.shape[axis]
    shape = [1] * cache.dim()
    shape[0], shape[axis] = batch, length
    return cache.scatter(axis, places.reshape(shape).expand(update.shape), update)


@operator("Range", 11)
def range_(start: Tensor, limit: Tensor, delta: Tensor, *, stash_type: int = 1) -> Tensor:
    """``start``, and every ``delta`` from it, before ``limit``."""
    first, end, step = start.item(), limit.item(), delta.item()
    if start.dtype in (torch.float16, torch.bfloat16):
        return torch.arange(first, end, step, device=start.device).to(start.dtype)
    return torch.arange(first, end, step, dtype=start.dtype, device=start.device)


@operator("ConstantOfShape", 9, static=(0,))
def constant_of_shape(
    shape: Sequence[int], *, value: Tensor | None = None, device: torch.device
) -> Tensor:
    """One value everywhere; 0.0 without one."""
    fill = value if value is not None else torch.zeros(1)
    return fill.to(device).reshape(()).expand(tuple(shape)).clone()


@operator("Constant")
def constant(
    *,
    value: Tensor | None = None,
    value_float: float | None = None,
    value_floats: Sequence[float] | None = None,
    value_int: int | None = None,
    value_ints: Sequence[int] | None = None,
) -> Tensor:
    """A tensor, or one of the numbers given."""
    if value is not None:
        return value
    if value_float is not None or value_floats is not None:
        return torch.tensor(value_float if value_float is not None else value_floats)
    number = value_int if value_int is not None else value_ints
    if number is None:
        raise DovetailError("a constant needs a tensor or numbers: text has no torch counterpart")
    return torch.tensor(number, dtype=torch.int64)


@operator("EyeLike", 9)
def eye_like(x: Tensor, *, dtype: int | None = None, k: int = 0) -> Tensor:
    """1 on a diagonal of a matrix of the input's shape."""
    kind = dtype_of(dtype) if dtype is not None else x.dtype
    rows = torch.arange(x.shape[0], device=x.device).unsqueeze(1)
    return (torch.arange(x.shape[1], device=x.device) - rows == k).to(kind)
