"""Where the elements of a tensor lie: shape, strides and offset, and what views do to them.

Dimensions are integers or sympy expressions (a batch size that is a symbol). Views are resolved
here, at lowering, so they cost nothing in the program that is generated.
"""

from __future__ import annotations

import math
from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any

__all__ = ["Dim", "Layout", "contiguous", "divides", "refinement", "total"]

#: An extent: an int, or a sympy expression where it is known only at the call.
Dim = Any


def total(shape: Sequence[Dim]) -> Dim:
    """The number of elements.

    >>> total((2, 3)), total(())
    (6, 1)
    """
    return math.prod(shape)


def divides(small: Dim, large: Dim) -> bool:
    """Whether ``large`` is a multiple of ``small``, for every value of their symbols.

    >>> divides(4, 12), divides(5, 12)
    (True, False)
    """
    if isinstance(small, int) and isinstance(large, int):
        return small != 0 and large % small == 0
    return bool((large / small).is_integer) if hasattr(large, "is_integer") else False


def contiguous(shape: Sequence[Dim]) -> tuple[Dim, ...]:
    """The strides of a dense tensor in row-major order.

    >>> contiguous((2, 3, 4))
    (12, 4, 1)
    """
    strides: list[Dim] = []
    step: Dim = 1
    for extent in reversed(shape):
        strides.append(step)
        step = step * extent
    return tuple(reversed(strides))


def _quotient(large: Dim, small: Dim) -> Dim:
    return large // small if isinstance(large, int) and isinstance(small, int) else large / small


def refinement(first: Sequence[Dim], second: Sequence[Dim]) -> tuple[Dim, ...] | None:
    """The coarsest shape of which both are mergers of neighbouring dimensions, if there is one.

    >>> refinement((6, 4), (2, 3, 4)), refinement((24,), (6, 4)), refinement((6, 4), (8, 3))
    ((2, 3, 4), (6, 4), None)
    """
    one, two = (_units_dropped(shape) for shape in (first, second))
    if one == two:
        return one
    found: list[Dim] = []
    left, right = list(one), list(two)
    while left and right:
        a, b = left.pop(), right.pop()
        if a == b:
            found.append(a)
        elif divides(b, a):
            found.append(b)
            left.append(_quotient(a, b))
        elif divides(a, b):
            found.append(a)
            right.append(_quotient(b, a))
        else:
            return None
    return None if left or right else tuple(reversed(found))


def _units_dropped(shape: Sequence[Dim]) -> tuple[Dim, ...]:
    return tuple(extent for extent in shape if extent != 1)


@dataclass(frozen=True)
class Layout:
    """Element ``i`` lies at ``offset + sum(i[d] * strides[d])``.

    >>> Layout((2, 3), (3, 1)).permute((1, 0))
    Layout(shape=(3, 2), strides=(1, 3), offset=0)
    >>> Layout((2, 3), (3, 1)).slice(1, 1, 3, 1)
    Layout(shape=(2, 2), strides=(3, 1), offset=1)
    """

    shape: tuple[Dim, ...]
    strides: tuple[Dim, ...]
    offset: Dim = 0

    @staticmethod
    def dense(shape: Sequence[Dim]) -> Layout:
        """Row-major, from the first element."""
        return Layout(tuple(shape), contiguous(shape))

    def permute(self, order: Sequence[int]) -> Layout:
        """Dimension ``d`` of the result is dimension ``order[d]``."""
        shape, strides = (tuple(old[d] for d in order) for old in (self.shape, self.strides))
        return Layout(shape, strides, self.offset)

    def expand(self, shape: Sequence[Dim]) -> Layout:
        """Dimensions of one element repeated; new ones in front.

        >>> Layout((3, 1), (1, 1)).expand((2, 3, 4))
        Layout(shape=(2, 3, 4), strides=(0, 1, 0), offset=0)
        """
        new = len(shape) - len(self.shape)
        strides = [0] * new
        extents: list[Dim] = list(shape[:new])
        for old, step, wanted in zip(self.shape, self.strides, shape[new:], strict=True):
            keep = isinstance(wanted, int) and wanted == -1
            extents.append(old if keep else wanted)
            strides.append(step if keep or old == wanted else 0)
        return Layout(tuple(extents), tuple(strides), self.offset)

    def slice(self, dim: int, start: Dim, stop: Dim, step: Dim) -> Layout:
        """Every ``step``-th of ``start <= i < stop`` along ``dim``."""
        extent = -((start - stop) // step) if step != 1 else stop - start
        shape = (*self.shape[:dim], extent, *self.shape[dim + 1 :])
        strides = (*self.strides[:dim], self.strides[dim] * step, *self.strides[dim + 1 :])
        return Layout(shape, strides, self.offset + start * self.strides[dim])

    def select(self, dim: int, index: Dim) -> Layout:
        """Without dimension ``dim``, at ``index``."""
        shape, strides = (old[:dim] + old[dim + 1 :] for old in (self.shape, self.strides))
        return Layout(shape, strides, self.offset + index * self.strides[dim])

    def squeeze(self, dims: Sequence[int]) -> Layout:
        """Without those of ``dims`` that have one element."""
        kept = [d for d in range(len(self.shape)) if d not in dims or self.shape[d] != 1]
        return self.permute(kept)

    def unsqueeze(self, dim: int) -> Layout:
        """With a dimension of one element at ``dim``."""
        shape = (*self.shape[:dim], 1, *self.shape[dim:])
        return Layout(shape, (*self.strides[:dim], 1, *self.strides[dim:]), self.offset)

    def flip(self, dim: int) -> Layout:
        """Backwards along ``dim``."""
        step = self.strides[dim]
        strides = (*self.strides[:dim], -step, *self.strides[dim + 1 :])
        return Layout(self.shape, strides, self.offset + (self.shape[dim] - 1) * step)

    def split(self, shape: Sequence[Dim]) -> Layout:
        """The same elements in a finer shape: one of which this one's merges neighbours.

        >>> Layout((6, 4), (8, 2)).split((2, 3, 4))
        Layout(shape=(2, 3, 4), strides=(24, 8, 2), offset=0)
        """
        steps: list[Dim] = []
        olds = [(e, s) for e, s in zip(self.shape, self.strides, strict=True) if e != 1]
        rest: Dim = 1
        step: Dim = 0
        for extent in reversed(shape):
            if extent == 1:
                steps.append(0)
                continue
            if rest == 1:
                rest, step = olds.pop()
            steps.append(step)
            step, rest = step * extent, _quotient(rest, extent)
        return Layout(tuple(shape), tuple(reversed(steps)), self.offset)

    def view(self, shape: Sequence[Dim]) -> Layout | None:
        """The same elements in row-major order in another shape, where strides can say that.

        >>> Layout((2, 3, 4), (12, 4, 1)).view((6, 4))
        Layout(shape=(6, 4), strides=(4, 1), offset=0)
        >>> Layout((3, 2), (1, 3)).view((6,)) is None
        True
        """
        if 0 in shape:
            return Layout.dense(shape)
        fine = refinement(self.shape, shape)
        if fine is None:
            return None
        steps = list(zip(fine, self.split(fine).strides, strict=True))
        found: list[Dim] = []
        for extent in reversed(shape):
            merged = _merged(steps, extent)
            if merged is None:
                return None
            found.append(merged)
        return Layout(tuple(shape), tuple(reversed(found)), self.offset)

    def same_place(self, other: Layout) -> bool:
        """Whether the two name the same element at every index."""
        if self.shape != other.shape or self.offset != other.offset:
            return False
        steps = zip(self.shape, self.strides, other.strides, strict=True)
        return all(extent == 1 or one == two for extent, one, two in steps)

    @property
    def is_contiguous(self) -> bool:
        """Whether the elements are dense in row-major order, wherever they begin."""
        return Layout(self.shape, self.strides).same_place(Layout.dense(self.shape))

    @property
    def is_dense(self) -> bool:
        """Whether every element of the memory it reaches over is one of its own, once."""
        steps = [(s, e) for e, s in zip(self.shape, self.strides, strict=True) if e != 1]
        if all(isinstance(n, int) for step in steps for n in step):
            steps.sort()
        else:
            steps.reverse()  # the usual order; another one counts as not dense
        wanted: Dim = 1
        for step, extent in steps:
            if step != wanted:
                return False
            wanted = wanted * extent
        return True

    @property
    def span(self) -> Dim:
        """How many elements of memory it reaches over, from the buffer's first."""
        reach = zip(self.shape, self.strides, strict=True)
        return self.offset + sum((extent - 1) * step for extent, step in reach) + 1


def _merged(steps: list[tuple[Dim, Dim]], extent: Dim) -> Dim | None:
    """The stride of one dimension made of the last fine ones; takes them off ``steps``."""
    if extent == 1:
        return 1
    size, step = steps.pop()
    while size != extent:
        count, outer = steps.pop()
        if outer != step * size:
            return None
        size = size * count
    return step
