"""New values of buffers (running statistics) written where the old ones are."""

from __future__ import annotations

from dovetail.compiler.groups.model import Access, Call, Group, Loops, Program, Reduction, Ref
from dovetail.compiler.passes.dead import _flat

__all__ = ["update_in_place"]


def update_in_place(program: Program) -> Program:
    """Each update of an input by a group that reads it last, element by element, in its memory.

    ``program.updates`` says which results are new values of inputs; those that are written in
    place are no results any more, and ``program.written`` says which those are.
    """
    last = _last_readers(program.groups)
    for number, given in list(program.updates.items()):
        ref = program.outputs[number]
        source = program.inputs[given]
        if (
            not isinstance(ref, Ref)
            or source is None
            or program.buffers[ref.buffer].role != "output"
        ):
            continue
        if sum(o.buffer == ref.buffer for o in program.results) > 1:
            continue
        if ref.layout == program.given[source] and _replace(program, ref.buffer, source, last):
            program.outputs[number] = None
            del program.updates[number]
            program.written.append(given)
            del program.buffers[ref.buffer]
    return program


def _last_readers(groups: list[Group]) -> dict[str, int]:
    last: dict[str, int] = {}
    for number, group in enumerate(groups):
        if isinstance(group, Call):
            last.update({ref.buffer: number for ref in _flat(group.inputs)})
        elif isinstance(group, Loops):
            last.update({access.buffer: number for access in _reads(group)})
    return last


def _reads(group: Loops) -> list[Access]:
    found = []
    for statement in group.body:
        single = isinstance(statement, Reduction)
        operands = [statement.operand] if single else statement.operands  # type: ignore[union-attr]
        found += [o for o in operands if isinstance(o, Access)]
    return found


def _replace(program: Program, made: str, given: str, last: dict[str, int]) -> bool:
    """Write ``made`` into ``given`` where nothing can tell; whether that was possible."""
    number = next(
        (
            i
            for i, group in enumerate(program.groups)
            if isinstance(group, Loops) and any(place.buffer == made for _, place in group.stores)
        ),
        None,
    )
    if number is None or last.get(given, -1) > number or last.get(made, -1) >= 0:
        return False
    group = program.groups[number]
    assert isinstance(group, Loops)
    (store,) = [item for item in group.stores if item[1].buffer == made]
    place = store[1]
    same = all(
        (a.strides, a.offset) == (place.strides, place.offset)
        for a in _reads(group)
        if a.buffer == given
    )
    if not same:
        return False
    moved = Access(given, place.strides, place.offset, place.dtype)
    group.stores = [(n, moved if p is place else p) for n, p in group.stores]
    return True
