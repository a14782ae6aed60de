"""The index space of a group of loops, and how it is cut finer so that an operation joins it."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import replace
from typing import Any

import torch

from dovetail.compiler.groups.layout import Dim, Layout, total
from dovetail.compiler.groups.model import Access, Index, Loops, Reduction, Statement

__all__ = ["access", "is_worth", "refine", "rows_refined", "spread"]

#: A reduction to fewer rows than this is not joined by what follows on whole elements.
FEWEST_ROWS = 4
#: Elements above which the order of a nest matters.
LARGE = 20_000


def is_worth(fine: tuple[Dim, ...], flags: tuple[bool, ...], group: Loops) -> bool:
    """Whether whole elements are well computed row by row: there are rows enough for threads."""
    rows = total([e for e, r in zip(fine, flags, strict=True) if not r])
    few = isinstance(rows, int) and rows < FEWEST_ROWS
    size = total(group.shape)
    return not (few and isinstance(size, int) and size > LARGE)


def access(buffer: str, layout: Layout, dtype: torch.dtype, group: Loops, row: bool) -> Access:
    """``layout`` by the dimensions of ``group``; a row value does not move along reduced ones."""
    if not row:
        split = layout.split(group.shape)
        return Access(buffer, split.strides, split.offset, dtype)
    kept = iter(layout.split(group.kept_shape).strides)
    strides = tuple(0 if reduced else next(kept) for reduced in group.reduced)
    return Access(buffer, strides, layout.offset, dtype)


def spread(
    coarse: tuple[Dim, ...], flags: Sequence[bool], fine: tuple[Dim, ...]
) -> tuple[bool, ...]:
    """One flag per fine dimension, from those of the coarse ones it is part of."""
    layout = Layout(coarse, tuple(1 if flag else 0 for flag in flags))
    marks = layout.split(fine).strides
    return tuple(bool(mark != 0) for mark in marks)


def rows_refined(group: Loops, kept: tuple[Dim, ...]) -> tuple[tuple[Dim, ...], tuple[bool, ...]]:
    """The group's shape with its kept dimensions split as ``kept``; reduced ones as they are."""
    fine: list[Dim] = []
    flags: list[bool] = []
    rest = list(kept)
    for extent, reduced in zip(group.shape, group.reduced, strict=True):
        pieces: list[Dim] = [extent] if reduced else []
        size: Dim = 1
        while not reduced and size != extent:
            piece = rest.pop(0)
            pieces.append(piece)
            size = size * piece
        fine += pieces
        flags += [reduced] * len(pieces)
    return tuple(fine), tuple(flags)


def refine(group: Loops, fine: tuple[Dim, ...], flags: tuple[bool, ...]) -> None:
    """Write the group's accesses by the finer dimensions."""
    if fine != group.shape:
        group.body = [_finer(statement, group.shape, fine) for statement in group.body]
        group.stores = [(name, _moved(place, group.shape, fine)) for name, place in group.stores]
    group.shape, group.reduced = fine, flags


def _moved(place: Any, coarse: tuple[Dim, ...], fine: tuple[Dim, ...]) -> Any:
    if not isinstance(place, (Access, Index)):
        return place
    return replace(place, strides=Layout(coarse, place.strides).split(fine).strides)


def _finer(
    statement: Statement | Reduction, coarse: tuple[Dim, ...], fine: tuple[Dim, ...]
) -> Statement | Reduction:
    if isinstance(statement, Reduction):
        return replace(statement, operand=_moved(statement.operand, coarse, fine))
    moved = tuple(_moved(operand, coarse, fine) for operand in statement.operands)
    return replace(statement, operands=moved)
