"""An elementwise group as one map."""

from __future__ import annotations

from collections import defaultdict
from collections.abc import Mapping
from typing import Any

from dovetail.compiler.groups.layout import Dim
from dovetail.compiler.groups.model import Loops, Statement
from dovetail.compiler.nodes.pure.body import BLOCK
from dovetail.compiler.sdfg.arrays import element, symbol
from dovetail.compiler.sdfg.nest import nested
from dovetail.compiler.sdfg.scope import Scope, make_map

__all__ = ["PARALLEL_FROM", "emit_elementwise", "is_large"]

#: Scalar operations below which the threads would cost more than they save.
PARALLEL_FROM = 20_000


def is_large(group: Loops) -> bool:
    """Whether a group is worth several threads; one of symbolic size counts as large."""
    count = group.operations + len(group.stores) * _size(group.shape)
    return not isinstance(count, int) or count >= PARALLEL_FROM


def _size(shape: tuple[Dim, ...]) -> Dim:
    made: Dim = 1
    for extent in shape:
        made = made * extent
    return made


def emit_elementwise(
    state: Any, group: Loops, sizes: Mapping[str, Dim], label: str, *, device: bool = False
) -> None:
    """One map over the group's shape, a tasklet per statement; on a GPU a thread per element."""
    loops = nested(group)
    shape = loops.shape or (1,)
    params = [f"i{d}" for d in range(len(shape) - 1)] + ["v"]
    large = is_large(group)
    schedule = "GPU_Device" if device else "CPU_Multicore" if large else "Sequential"
    entry, exit_ = make_map(label, params, [(0, extent) for extent in shape], schedule)
    if device:
        entry.map.gpu_block_size = [BLOCK]
    elif large:
        entry.map.collapse = max(len(shape) - 1, 1)
    index = [symbol(p) for p in params][: len(loops.shape)]
    scope = Scope(state, sizes, (entry, exit_), index)
    stores: dict[str, list[Any]] = defaultdict(list)
    for name, place in loops.stores:
        stores[name].append(element(place, index))
    scope.emit([s for s in loops.body if isinstance(s, Statement)], stores)
