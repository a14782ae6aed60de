"""A row reduction on a GPU: the threads of a block share rows, and fold what each has summed.

Where the innermost dimension is reduced, a warp takes a row and a block several of them; a long row
gets a block of its own. Where it is kept, a block takes neighbouring rows, one per thread of a
warp, so that a warp reads neighbouring elements, and its warps share their elements. Row values are
computed by every thread that has the row, and all of them write what is written of a row: the same
bits, since partial results are folded in one order. Threads beyond the last row repeat it.
"""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

from dovetail.compiler.groups.layout import Dim, total
from dovetail.compiler.groups.model import Access, Loops, Reduction, Statement
from dovetail.compiler.sdfg.arrays import _sized, dace, digit, symbol
from dovetail.compiler.sdfg.nest import nested
from dovetail.compiler.sdfg.phases import Pass
from dovetail.compiler.sdfg.rows import Loop, Rows
from dovetail.compiler.sdfg.scope import Scope, make_map

__all__ = ["emit_rows_on_device"]

WARP = 32
#: Warps of a block: of as many rows, or of as many parts of 32 rows.
WARPS = 8
#: Elements from which a row gets a block of its own, and from which it gets the largest one.
LONG, LONGEST = 2048, 32768
#: Threads of those blocks.
THREADS, MOST_THREADS = 256, 1024


def emit_rows_on_device(state: Any, group: Loops, sizes: Mapping[str, Dim], label: str) -> None:
    """One kernel: a map over blocks, one over the threads of each, and inside it a map per pass."""
    _DeviceRows(state, nested(group), dict(sizes), label).emit()


class _DeviceRows(Rows):
    """Threads ``t`` share a row; ``y`` are rows of other warps, or other threads of the same."""

    def __init__(self, state: Any, group: Loops, sizes: dict[str, Dim], label: str) -> None:
        self.state, self.group, self.sizes, self.label = state, group, sizes, label
        self.inner = len(group.shape) - 1
        self.lane_reduced = True  # row values are scalars of a thread
        self.index = [0] * len(group.shape)
        self.along = self._along()
        self.by_columns = not group.reduced[self.inner]
        self.threads, self.rows = self._block_shape()
        self.outer = self._outer()

    def _along(self) -> int:
        """The reduced dimension that the threads of a row divide: the last, if it is long."""
        reduced = [d for d, r in enumerate(self.group.reduced) if r]
        short = isinstance(extent := self.group.shape[reduced[-1]], int) and extent < WARP
        if not short:
            return reduced[-1]
        return max(reduced, key=lambda d: (_bound(self.group.shape[d]), d))

    def _block_shape(self) -> tuple[int, int]:
        """Threads that share a row, and rows of a block."""
        if self.by_columns:
            return WARPS, WARP
        length = _bound(total(self.group.reduced_shape))
        if length < LONG:
            return WARP, WARPS
        return (THREADS if length < LONGEST else MOST_THREADS), 1

    def _outer(self) -> Scope:
        """The threads of a block, inside the map over blocks."""
        kept = [(d, e) for d, e in enumerate(self.group.shape) if not self.group.reduced[d]]
        count = _sized(total([e for _, e in kept]))
        blocks = dace.symbolic.int_ceil(count, self.rows) if self.rows > 1 else count
        grid = make_map(self.label, ["k"], [(0, blocks)], "GPU_Device")
        own = ("t", self.threads), ("y", self.rows)
        shape = own if self.by_columns else own[::-1]  # the last one counts neighbours in a warp
        block = make_map(
            f"{self.label}_block", [n for n, _ in shape], [(0, e) for _, e in shape],
            "GPU_ThreadBlock",
        )  # fmt: skip
        row = symbol("k")
        if self.rows > 1:
            row = row * self.rows + symbol("y")
            row = row if _divides(self.rows, count) else dace.symbolic.pystr_to_symbolic(
                f"min({row}, {count - 1})"
            )  # fmt: skip
        step: Any = 1
        for d, extent in reversed(kept):
            self.index[d] = digit(row, step, _sized(extent), first=d == kept[0][0])
            step = step * _sized(extent)
        outer = Scope(self.state, self.sizes, grid, self.index)
        return Scope(self.state, self.sizes, block, self.index, outer)

    def _lanes(self) -> int:
        return 1

    def _loops(self, lanes: int, sums: bool) -> list[Loop]:
        """One map over what a thread has of its row."""
        del lanes, sums
        params: list[str] = []
        ranges: list[tuple[Any, ...]] = []
        index = list(self.index)
        for d, reduced in enumerate(self.group.reduced):
            if not reduced:
                continue
            extent = _sized(self.group.shape[d])
            params.append(f"r{d}")
            own = d == self.along
            ranges.append((symbol("t"), extent, self.threads) if own else (0, extent))
            index[d] = symbol(f"r{d}")
        return [Loop(params, ranges, index, 0)]

    def _scratch(self, one: Pass, kept: Mapping[str, Access]) -> dict[str, Access]:
        """Nothing is kept for later passes: a thread's own array would lie in memory."""
        del one, kept
        return {}

    def _finish(self, reduction: Reduction, array: str, lanes: int) -> None:
        """The result of a row, from those of its threads."""
        del lanes
        self._publish(array, self.outer.local[array], reduction.dtype)
        shared = "columns" if self.by_columns else "warp" if self.threads == WARP else "block"
        code = f"dv_{shared}_{reduction.kind}({{0}})"
        folded = Statement(reduction.name, code, (array,), reduction.dtype, True, reduction.origin)
        self.outer.emit([folded], {}, keep=True)
        self._publish(reduction.name, *self.outer.values[reduction.name])


def _bound(extent: Dim) -> int:
    """An extent; one that is known only at the call counts as long."""
    return extent if isinstance(extent, int) else LONG


def _divides(small: int, large: Any) -> bool:
    return bool(getattr(large, "is_Integer", isinstance(large, int))) and int(large) % small == 0
