"""What a row reduction computes in each pass over its rows."""

from __future__ import annotations

from collections.abc import Iterable
from dataclasses import dataclass, field, replace

from dovetail.compiler.groups.model import Access, Loops, Reduction, Statement

__all__ = ["Pass", "passes", "reread"]


@dataclass
class Pass:
    """One walk over the elements of a row, and the row statements before it."""

    rows: list[Statement] = field(default_factory=list)
    body: list[Statement] = field(default_factory=list)
    reductions: list[Reduction] = field(default_factory=list)
    stores: list[tuple[str, Access]] = field(default_factory=list)
    row_stores: list[tuple[str, Access]] = field(default_factory=list)
    #: Results that later passes read again instead of computing them anew.
    kept: list[Statement] = field(default_factory=list)


def passes(group: Loops) -> list[Pass]:
    """The passes in order; the last may hold only row statements.

    A statement's pass is how many reductions lie between it and memory. What a later pass needs of
    an earlier one it computes again, unless that is dear: then the earlier pass keeps it.
    """
    depth = _depths(group)
    made = [Pass() for _ in range(1 + max(depth.values(), default=0))]
    by_name = {s.name: s for s in group.body}
    for statement in group.body:
        if isinstance(statement, Reduction):
            made[depth[statement.name] - 1].reductions.append(statement)
        elif statement.row:
            made[depth[statement.name]].rows.append(statement)
    for name, place in group.stores:
        source = by_name[name]
        if isinstance(source, Reduction):
            copy = Statement(f"{name}kept", "{0}", (name,), source.dtype, True, source.origin, 0)
            made[depth[name]].rows.append(copy)
            made[depth[name]].row_stores.append((copy.name, place))
        elif source.row:
            made[depth[name]].row_stores.append((name, place))
        else:
            made[depth[name]].stores.append((name, place))
    for one in made:
        wanted = [name for name, _ in one.stores]
        wanted += [r.operand for r in one.reductions if isinstance(r.operand, str)]
        one.body = _needed(group, wanted)
    _keep_dear(made)
    return made


def _depths(group: Loops) -> dict[str, int]:
    depth: dict[str, int] = {}
    for statement in group.body:
        if isinstance(statement, Reduction):
            operand = statement.operand
            depth[statement.name] = 1 + (depth[operand] if isinstance(operand, str) else 0)
        else:
            names = [o for o in statement.operands if isinstance(o, str)]
            depth[statement.name] = max((depth[n] for n in names), default=0)
    return depth


def _needed(group: Loops, wanted: Iterable[str]) -> list[Statement]:
    """The whole-element statements behind ``wanted``, in order."""
    needed = set(wanted)
    found: list[Statement] = []
    for statement in reversed(group.body):
        if statement.name in needed and isinstance(statement, Statement) and not statement.row:
            found.append(statement)
            needed.update(o for o in statement.operands if isinstance(o, str))
    return list(reversed(found))


def _keep_dear(made: list[Pass]) -> None:
    for number, one in enumerate(made):
        later = {s.name for other in made[number + 1 :] for s in other.body}
        one.kept = [s for s in one.body if s.dear and s.name in later]


def reread(body: list[Statement], kept: dict[str, Access], wanted: set[str]) -> list[Statement]:
    """``body`` with the statements in ``kept`` read from memory, and what only they needed gone."""
    needed = set(wanted)
    found: list[Statement] = []
    for statement in reversed(body):
        if statement.name not in needed:
            continue
        if statement.name in kept:
            statement = replace(statement, code="{0}", operands=(kept[statement.name],), flops=0)
        needed.update(o for o in statement.operands if isinstance(o, str))
        found.append(statement)
    return list(reversed(found))
