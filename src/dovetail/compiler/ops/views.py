"""Views, and what torch copies: the first cost nothing, the second are elementwise groups."""

from __future__ import annotations

from collections.abc import Sequence
from functools import partial
from typing import Any

from dovetail.compiler.groups.layout import Dim, Layout
from dovetail.compiler.groups.model import Constant, Ref
from dovetail.compiler.ops.builder import Builder, Value
from dovetail.compiler.ops.pointwise import like_result
from dovetail.compiler.ops.table import lowers

_END = 2**62
#: Elements are only moved, of whatever type they are.
moves = partial(lowers, any_type=True)


@moves("alias.default", "detach.default", "lift_fresh.default", "lift_fresh_copy.default")
def alias(b: Builder, x: Value) -> Value:
    """The same tensor."""
    return x


@moves("view.default", "_unsafe_view.default", "reshape.default", "_reshape_copy.default")
def view(b: Builder, x: Value, size: Sequence[Dim]) -> Value:
    """Another shape."""
    return b.reshape(x, tuple(b.result.shape))


@moves("permute.default")
def permute(b: Builder, x: Value, dims: Sequence[int]) -> Value:
    """Dimensions in another order."""
    rank = len(x.shape)
    return b.relayout(x, b.layout_of(x).permute([d % rank for d in dims]))


@moves("t.default")
def t(b: Builder, x: Value) -> Value:
    """Transposed."""
    return b.relayout(x, b.layout_of(x).permute(tuple(reversed(range(len(x.shape))))))


@moves("transpose.int")
def transpose(b: Builder, x: Value, dim0: int, dim1: int) -> Value:
    """Two dimensions exchanged."""
    order = list(range(len(x.shape)))
    order[dim0], order[dim1] = order[dim1], order[dim0]
    return b.relayout(x, b.layout_of(x).permute(order))


@moves("expand.default", "broadcast_to.default")
def expand(b: Builder, x: Value, size: Sequence[Dim], implicit: bool = False) -> Value:
    """Repeated along dimensions of one element."""
    return b.relayout(x, b.layout_of(x).expand(tuple(b.result.shape)))


@moves("squeeze.default", "squeeze.dim", "squeeze.dims")
def squeeze(b: Builder, x: Value, dim: Any = None) -> Value:
    """Without dimensions of one element."""
    rank = len(x.shape)
    dims = range(rank) if dim is None else [dim] if isinstance(dim, int) else dim
    return b.relayout(x, b.layout_of(x).squeeze([d % rank for d in dims] if rank else []))


@moves("unsqueeze.default")
def unsqueeze(b: Builder, x: Value, dim: int) -> Value:
    """With another dimension of one element."""
    return b.relayout(x, b.layout_of(x).unsqueeze(dim % (len(x.shape) + 1)))


def _bound(value: Any, extent: Dim, default: Dim) -> Dim:
    if value is None:
        return default
    if not isinstance(value, int) or not isinstance(extent, int):
        return extent if isinstance(value, int) and value >= _END else value
    return min(max(value + extent if value < 0 else value, 0), extent)


def part(b: Builder, x: Value, dim: int, start: Dim, stop: Dim, step: Dim = 1) -> Value:
    """``start <= i < stop`` along ``dim``."""
    return b.relayout(x, b.layout_of(x).slice(dim, start, stop, step))


@moves("slice.Tensor")
def slice_(
    b: Builder, x: Value, dim: int = 0, start: Any = None, end: Any = None, step: int = 1
) -> Value:
    """A range of one dimension."""
    dim %= len(x.shape)
    extent = x.shape[dim]
    first = _bound(start, extent, 0)
    last = _bound(end, extent, extent)
    if isinstance(first, int) and isinstance(last, int):
        last = max(first, last)
    return part(b, x, dim, first, last, step)


@moves("select.int")
def select(b: Builder, x: Value, dim: int, index: Any) -> Value:
    """One index of a dimension."""
    dim %= len(x.shape)
    place = index + x.shape[dim] if isinstance(index, int) and index < 0 else index
    return b.relayout(x, b.layout_of(x).select(dim, place))


@moves("unfold.default")
def unfold(b: Builder, x: Value, dim: int, size: int, step: int) -> Value:
    """Every window of ``size`` along a dimension, as a last one: they may overlap."""
    layout = b.layout_of(x)
    if not layout.shape:
        return b.relayout(x, layout.unsqueeze(0))
    dim %= len(layout.shape)
    windows = layout.slice(dim, 0, layout.shape[dim] - size + 1, step)
    stride = layout.strides[dim]
    return b.relayout(x, Layout((*windows.shape, size), (*windows.strides, stride), windows.offset))


def _pieces(b: Builder, x: Value, sizes: Sequence[Dim], dim: int) -> list[Value]:
    dim %= len(x.shape)
    found, start = [], 0
    for size in sizes:
        found.append(part(b, x, dim, start, start + size))
        start = start + size
    return found


@moves("split_with_sizes.default")
def split_with_sizes(b: Builder, x: Value, sizes: Sequence[Dim], dim: int = 0) -> list[Value]:
    """Neighbouring parts."""
    return _pieces(b, x, sizes, dim)


@moves("split.Tensor")
def split(b: Builder, x: Value, size: int, dim: int = 0) -> list[Value]:
    """Neighbouring parts of equal size."""
    extent = x.shape[dim]
    return _pieces(b, x, [min(size, extent - i) for i in range(0, extent, size)], dim)


@moves("unbind.int")
def unbind(b: Builder, x: Value, dim: int = 0) -> list[Value]:
    """One tensor for each index of a dimension."""
    return [select(b, x, dim, i) for i in range(x.shape[dim])]


@moves("flip.default")
def flip(b: Builder, x: Value, dims: Sequence[int]) -> Value:
    """Backwards along dimensions."""
    layout = b.layout_of(x)
    for dim in dims:
        layout = layout.flip(dim % len(x.shape))
    return b.relayout(x, layout)


@moves("as_strided.default")
def as_strided(
    b: Builder, x: Value, size: Sequence[Dim], stride: Sequence[Dim], offset: Any = None
) -> Value:
    """Elements by strides of the buffer."""
    start = b.layout_of(x).offset if offset is None else offset
    return b.relayout(x, Layout(tuple(size), tuple(stride), start))


@moves("clone.default", "contiguous.default", "copy.default")
def clone(b: Builder, x: Value, other: Value | None = None, **_: Any) -> Value:
    """The same elements in memory of their own; of ``copy``, those of the second tensor."""
    source = x if other is None else b.cast(other, b.result.dtype)
    spread = b.relayout(source, b.layout_of(source).expand(b.result.shape))
    wanted = like_result(b)
    own = isinstance(spread, Ref) and not b.returned and not b.is_given(spread)
    if own and Layout(spread.shape, b.layout_of(spread).strides).same_place(wanted):
        return spread  # nothing is written twice, so nobody can tell
    return b.copied(spread, wanted)


@moves("cat.default")
def cat(b: Builder, tensors: Sequence[Value], dim: int = 0) -> Value:
    """Tensors one after the other: each is written to its part of the result."""
    parts = [x for x in tensors if tuple(x.shape) != (0,)]
    target = b.former.allocate(like_result(b), b.result.dtype)
    return _fill(b, target, parts, dim % len(target.shape))


def _fill(b: Builder, target: Ref, parts: Sequence[Value], dim: int) -> Ref:
    start: Dim = 0
    for x in parts:
        extent = x.shape[dim]
        place = target.layout.slice(dim, start, start + extent, 1)
        if 0 not in x.shape:
            b.copy(b.cast(x, target.dtype), Ref(target.buffer, place, target.dtype))
        start = start + extent
    return target


@moves("slice_scatter.default")
def slice_scatter(
    b: Builder,
    x: Value,
    source: Value,
    dim: int = 0,
    start: Any = None,
    end: Any = None,
    step: int = 1,
) -> Value:
    """A tensor with a range of one dimension replaced."""
    dim %= len(x.shape)
    extent = x.shape[dim]
    first, last = _bound(start, extent, 0), _bound(end, extent, extent)
    target = b.former.allocate(like_result(b), b.result.dtype)
    if step == 1:
        parts = [part(b, x, dim, 0, first), source, part(b, x, dim, last, extent)]
        return _fill(b, target, parts, dim)
    places = range(first, last, step)
    parts = []
    for i in range(extent):
        inside = i in places
        parts.append(
            part(b, source, dim, places.index(i), places.index(i) + 1)
            if inside
            else part(b, x, dim, i, i + 1)
        )
    return _fill(b, target, parts, dim)


@moves("select_scatter.default")
def select_scatter(b: Builder, x: Value, source: Value, dim: int, index: int) -> Value:
    """A tensor with one index of a dimension replaced."""
    dim %= len(x.shape)
    index = index % x.shape[dim]
    thick = b.relayout(source, b.layout_of(source).unsqueeze(dim))
    made: Value = slice_scatter(b, x, thick, dim, index, index + 1)
    return made


@lowers("constant_pad_nd.default")
def constant_pad_nd(b: Builder, x: Value, pad: Sequence[int], value: float = 0) -> Value:
    """Borders of a constant; negative ones cut off."""
    rank = len(x.shape)
    target = b.former.allocate(like_result(b), b.result.dtype)
    place = target.layout
    for i in range(len(pad) // 2):
        dim = rank - 1 - i
        low, high = pad[2 * i], pad[2 * i + 1]
        x = part(b, x, dim, max(-low, 0), x.shape[dim] - max(-high, 0))
        extent = place.shape[dim]
        for first, last in ((0, max(low, 0)), (extent - max(high, 0), extent)):
            if first != last:
                border = place.slice(dim, first, last, 1)
                b.copy(
                    Constant(value, border.shape, target.dtype),
                    Ref(target.buffer, border, target.dtype),
                )
        place = place.slice(dim, max(low, 0), extent - max(high, 0), 1)
    b.copy(x, Ref(target.buffer, place, target.dtype))
    return target
