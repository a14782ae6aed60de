"""A row reduction as one map over its rows, with a sequential map for each pass over a row.

Where the innermost dimension is reduced, sums are made in :data:`LANES` partial sums, which a
compiler turns into vectors, and then folded. Where it is kept, a block of neighbouring rows is
computed at once, and row values are arrays of that width.
"""

from __future__ import annotations

from collections import defaultdict
from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any

import torch

from dovetail.compiler.groups.layout import Dim, contiguous, total
from dovetail.compiler.groups.model import Access, Loops, Reduction, Statement
from dovetail.compiler.ops.scalars import literal
from dovetail.compiler.sdfg.arrays import _sized, dace, dtype_of, element, symbol
from dovetail.compiler.sdfg.elementwise import is_large
from dovetail.compiler.sdfg.nest import nested
from dovetail.compiler.sdfg.phases import Pass, passes, reread
from dovetail.compiler.sdfg.scope import Scope, make_map

__all__ = ["COMBINE", "Loop", "Rows", "emit_rows"]

#: Partial sums of a row: two vectors of the widest machines.
LANES = 32
#: Neighbouring rows that are computed at once.
WIDTH = 64
#: Elements of a row that are kept on the stack for later passes.
KEPT = 4096

COMBINE = {
    "sum": "lambda a, b: a + b",
    "prod": "lambda a, b: a * b",
    "max": "lambda a, b: dv_max(a, b)",
    "min": "lambda a, b: dv_min(a, b)",
}


def _identity(kind: str, dtype: torch.dtype) -> str:
    if kind in ("sum", "prod"):
        return literal(0 if kind == "sum" else 1, dtype)
    if dtype.is_floating_point:
        return literal(float("-inf") if kind == "max" else float("inf"), dtype)
    if dtype == torch.bool:
        return literal(kind == "min", dtype)
    bounds = torch.iinfo(dtype)
    return literal(bounds.min if kind == "max" else bounds.max, dtype)


def emit_rows(state: Any, group: Loops, sizes: Mapping[str, Dim], label: str) -> None:
    """One map over rows, or blocks of rows, and inside it a map per pass."""
    Rows(state, nested(group), dict(sizes), label).emit()


@dataclass
class Loop:
    """One sequential map over the elements of a row: parameters, ranges, and the index."""

    params: list[str]
    ranges: list[tuple[Any, ...]]
    index: list[Any]
    #: Which partial sum an element belongs to.
    lane: Any


class Rows:
    """The maps of one row reduction."""

    def __init__(self, state: Any, group: Loops, sizes: dict[str, Dim], label: str) -> None:
        self.state, self.group, self.sizes, self.label = state, group, sizes, label
        self.inner = len(group.shape) - 1
        self.lane_reduced = group.reduced[self.inner]
        self.width: Dim = 1 if self.lane_reduced else _width(group.shape[self.inner])
        self.index: list[Any] = [0] * len(group.shape)
        self.outer = self._outer()

    def _outer(self) -> Scope:
        params, ranges = [], []
        for d, extent in enumerate(self.group.shape):
            if self.group.reduced[d]:
                continue
            blocks = extent if d != self.inner else -(-_sized(extent) // self.width)
            params.append(f"k{d}")
            ranges.append((0, _sized(blocks)))
            self.index[d] = symbol(f"k{d}")
        if not params:
            params, ranges = ["k"], [(0, 1)]
        parallel = is_large(self.group) and ranges != [(0, 1)]
        schedule = "CPU_Multicore" if parallel else "Sequential"
        nodes = make_map(self.label, params, ranges, schedule)
        if parallel:
            nodes[0].map.collapse = len(params)
        if not self.lane_reduced:
            self.index[self.inner] = self.index[self.inner] * self.width + symbol("v")
        return Scope(self.state, self.sizes, nodes, self.index)

    def emit(self) -> None:
        kept: dict[str, Access] = {}
        for one in passes(self.group):
            self._row_statements(one)
            if one.body or one.reductions:
                self._pass(one, kept)

    # -- statements of rows ---------------------------------------------------------------------

    def _row_statements(self, one: Pass) -> None:
        if not one.rows:
            return
        stores: dict[str, list[Any]] = defaultdict(list)
        for name, place in one.row_stores:
            stores[name].append(element(place, self.index))
        if self.lane_reduced:
            self.outer.emit(one.rows, stores, keep=True)
            for statement in one.rows:
                self._publish(statement.name, *self.outer.values[statement.name])
            return
        scope = self._scope("rows", ["v"], [(0, self._block())], self.index)
        for statement in one.rows:
            array = self._array(statement.name, self.width, statement.dtype)
            stores[statement.name].append(_at(array, symbol("v")))
            self.outer.rows[statement.name] = array, statement.dtype
        scope.emit(one.rows, stores)
        scope.attach()

    def _publish(self, name: str, node: Any, dtype: torch.dtype) -> None:
        self.outer.local[node.data] = node
        self.outer.values[name] = node, dtype
        self.outer.rows[name] = node.data, dtype
        self.sizes[node.data] = 1

    def _block(self) -> Any:
        """How many rows the block has that the outer map is at."""
        extent = self.group.shape[self.inner]
        if isinstance(extent, int) and extent % self.width == 0:
            return self.width
        first = symbol(f"k{self.inner}") * self.width
        return dace.symbolic.pystr_to_symbolic(f"min({self.width}, {_sized(extent)} - ({first}))")

    # -- passes over the elements of rows -------------------------------------------------------

    def _pass(self, one: Pass, kept: dict[str, Access]) -> None:
        lanes = self._lanes() if one.reductions else 1
        sums: dict[str, str] = {}
        for reduction in one.reductions:
            sums[reduction.name] = self._begin(reduction, lanes)
        extra = self._scratch(one, kept)
        for loop in self._loops(lanes, bool(one.reductions)):
            self._walk(one, loop, sums, kept, extra)
        kept.update(extra)
        for reduction in one.reductions:
            self._finish(reduction, sums[reduction.name], lanes)

    def _lanes(self) -> int:
        extent = self.group.shape[self.inner]
        if not self.lane_reduced or not isinstance(extent, int):
            return 1
        return next((n for n in (LANES, LANES // 2, LANES // 4) if extent >= 2 * n), 1)

    def _loops(self, lanes: int, sums: bool) -> list[Loop]:
        """The maps of one pass: with several lanes, whole blocks and then what is left."""
        outer = [d for d, r in enumerate(self.group.reduced) if r and d != self.inner]
        params = [f"r{d}" for d in outer]
        ranges = [(0, _sized(self.group.shape[d])) for d in outer]
        index = list(self.index)
        for d in outer:
            index[d] = symbol(f"r{d}")
        if not self.lane_reduced:
            whole = Loop([*params, "v"], [*ranges, (0, self._block())], index, symbol("v"))
            return [whole]
        extent = _sized(self.group.shape[self.inner])
        if lanes == 1:
            name = "u" if sums else "v"
            index[self.inner] = symbol(name)
            return [Loop([*params, name], [*ranges, (0, extent)], index, 0)]
        blocks = extent // lanes
        inside, left = list(index), list(index)
        inside[self.inner] = symbol("j") * lanes + symbol("v")
        left[self.inner] = blocks * lanes + symbol("v")
        found = [Loop([*params, "j", "v"], [*ranges, (0, blocks), (0, lanes)], inside, symbol("v"))]
        if blocks * lanes != extent:
            rest = (0, extent - blocks * lanes)
            found.append(Loop([*params, "v"], [*ranges, rest], left, symbol("v")))
        return found

    def _walk(
        self,
        one: Pass,
        loop: Loop,
        sums: Mapping[str, str],
        kept: Mapping[str, Access],
        extra: Mapping[str, Access],
    ) -> None:
        scope = self._scope("pass", loop.params, loop.ranges, loop.index)
        scope.row = loop.lane if not self.lane_reduced else 0
        stores: dict[str, list[Any]] = defaultdict(list)
        for name, place in one.stores:
            stores[name].append(element(place, loop.index))
        for name, place in extra.items():
            stores[name].append(element(place, loop.index))
        body = list(one.body)
        for reduction in one.reductions:
            source = reduction.operand
            if not isinstance(source, str) or reduction.kind in ("max", "min"):
                # a tasklet of its own: DaCe names the lambdas of all writes of one alike
                body.append(_load(reduction, source))
                source = body[-1].name
            combined = _at(sums[reduction.name], loop.lane)
            combined.wcr = COMBINE[reduction.kind]
            stores[source].append(combined)
        scope.emit(reread(body, dict(kept), set(stores)), stores)
        scope.attach()

    def _scratch(self, one: Pass, kept: Mapping[str, Access]) -> dict[str, Access]:
        """Where this pass keeps what later ones read again: on the stack, if a row is short."""
        count = total(self.group.reduced_shape)
        if not self.lane_reduced or not isinstance(count, int) or count > KEPT:
            return {}
        steps = iter(contiguous(self.group.reduced_shape))
        strides = tuple(next(steps) if reduced else 0 for reduced in self.group.reduced)
        found: dict[str, Access] = {}
        for statement in one.kept:
            if statement.name not in kept:
                array = self._array(statement.name, count, statement.dtype)
                found[statement.name] = Access(array, strides, 0, statement.dtype)
        return found

    # -- sums -----------------------------------------------------------------------------------

    def _begin(self, reduction: Reduction, lanes: int) -> str:
        """An array of partial results, each the identity."""
        size = lanes if self.lane_reduced else self.width
        array = self._array(f"{reduction.name}sums", size, reduction.dtype)
        self._fill(array, size, _identity(reduction.kind, reduction.dtype), reduction)
        return array

    def _fill(self, array: str, size: Any, code: str, reduction: Reduction) -> None:
        scope = self._scope("start", ["v"], [(0, size)], self.index)
        start = Statement("start", code, (), reduction.dtype, True, reduction.origin, 0)
        scope.emit([start], {"start": [_at(array, symbol("v"))]})
        scope.attach()

    def _finish(self, reduction: Reduction, array: str, lanes: int) -> None:
        """The one result of a row, from its partial ones."""
        if not self.lane_reduced:
            self.outer.rows[reduction.name] = array, reduction.dtype
            return
        if lanes == 1:
            self._publish(reduction.name, self.outer.local[array], reduction.dtype)
            return
        result = self._array(reduction.name, 1, reduction.dtype)
        self._fill(result, 1, _identity(reduction.kind, reduction.dtype), reduction)
        scope = self._scope("fold", ["u"], [(0, lanes)], self.index)
        lane = Access(array, (1,), 0, reduction.dtype)
        scope.index = [symbol("u")]
        combined = _at(result, 0)
        combined.wcr = COMBINE[reduction.kind]
        fold = Statement("fold", "{0}", (lane,), reduction.dtype, True, reduction.origin, 1)
        scope.emit([fold], {"fold": [combined]})
        self._publish(reduction.name, self.outer.local[result], reduction.dtype)

    # -- parts ----------------------------------------------------------------------------------

    def _scope(
        self, kind: str, params: list[str], ranges: list[tuple[Any, ...]], index: list[Any]
    ) -> Scope:
        nodes = make_map(f"{self.label}_{kind}", params, ranges)
        scope = Scope(self.state, self.sizes, nodes, index, self.outer)
        scope.row = symbol("v")
        return scope

    def _array(self, stem: str, size: Dim, dtype: torch.dtype) -> str:
        """A small array inside the outer map."""
        name = self.state.sdfg.add_array(
            stem,
            [size],
            dtype_of(dtype),
            storage=dace.StorageType.Register,
            transient=True,
            find_new_name=True,
        )[0]
        self.sizes[name] = size
        self.outer.local[name] = None
        return str(name)


def _width(extent: Dim) -> Dim:
    return min(extent, WIDTH) if isinstance(extent, int) else WIDTH


def _at(array: str, place: Any) -> Any:
    return dace.Memlet(data=array, subset=dace.subsets.Range([(place, place, 1)]))


def _load(reduction: Reduction, source: str | Access) -> Statement:
    name = f"{reduction.name}of"
    return Statement(name, "{0}", (source,), reduction.dtype, False, reduction.origin, 0)
