"""The loops of a group: dimensions put in the order of memory, and neighbours merged."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import replace
from typing import Any

from dovetail.compiler.groups.layout import Dim
from dovetail.compiler.groups.model import Access, Index, Loops, Reduction, Statement

__all__ = ["accesses", "nested"]


def accesses(group: Loops) -> list[Access | Index]:
    """Every place that the group reads or writes."""
    found: list[Access | Index] = []
    for statement in group.body:
        operands = (
            [statement.operand] if isinstance(statement, Reduction) else list(statement.operands)
        )
        found += [o for o in operands if isinstance(o, (Access, Index))]
    return found + [place for _, place in group.stores]


def nested(group: Loops) -> Loops:
    """``group`` with as few loops as its strides allow, the innermost along memory."""
    return _merged(_ordered(group))


def _ordered(group: Loops) -> Loops:
    """Dimensions by falling strides of what is read and written most widely."""
    rank = len(group.shape)
    places = [a for a in accesses(group) if isinstance(a, Access)]
    full = [a for a in places if sum(s != 0 for s in a.strides) == rank] or places
    if rank < 2 or not full or not all(isinstance(s, int) for a in full for s in a.strides):
        return group
    order = sorted(range(rank), key=lambda d: -sum(abs(a.strides[d]) for a in full))
    return group if order == list(range(rank)) else _rewritten(group, lambda dims: _at(dims, order))


def _at(dims: Sequence[Any], order: Sequence[int]) -> tuple[Any, ...]:
    return tuple(dims[d] for d in order)


def _merged(group: Loops) -> Loops:
    places = accesses(group)
    keep: list[int] = []  # the last dimension of each merged run
    sizes: list[Dim] = []
    for d, extent in enumerate(group.shape):
        if keep and group.reduced[d] == group.reduced[keep[-1]] and _mergeable(places, d, extent):
            keep[-1] = d
            sizes[-1] = sizes[-1] * extent
        else:
            keep.append(d)
            sizes.append(extent)
    made = _rewritten(group, lambda dims: _at(dims, keep))
    return replace(made, shape=tuple(sizes))


def _mergeable(places: Sequence[Access | Index], d: int, extent: Dim) -> bool:
    return all(place.strides[d - 1] == place.strides[d] * extent for place in places)


def _rewritten(group: Loops, dims: Any) -> Loops:
    def moved(place: Any) -> Any:
        if isinstance(place, (Access, Index)):
            return replace(place, strides=dims(place.strides))
        return place

    def rewritten(statement: Statement | Reduction) -> Statement | Reduction:
        if isinstance(statement, Reduction):
            return replace(statement, operand=moved(statement.operand))
        return replace(statement, operands=tuple(map(moved, statement.operands)))

    return Loops(
        dims(group.shape),
        dims(group.reduced),
        [rewritten(statement) for statement in group.body],
        [(name, moved(place)) for name, place in group.stores],
    )
