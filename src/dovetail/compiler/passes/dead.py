"""Statements and buffers that nothing reads."""

from __future__ import annotations

from dovetail.compiler.groups.model import Call, Group, Program, Reduction, Ref, View

__all__ = ["drop_unused"]


def drop_unused(program: Program) -> Program:
    """Without what no result depends on: in one walk from the end."""
    wanted = {ref.buffer for ref in program.results}
    wanted |= {name for name, buffer in program.buffers.items() if buffer.role == "input"}
    kept: list[Group] = []
    for group in reversed(program.groups):
        if isinstance(group, View):
            kept.append(group)
            continue
        if isinstance(group, Call):
            if not any(ref is not None and ref.buffer in wanted for ref in group.outputs):
                continue
            wanted |= {ref.buffer for ref in _flat(group.inputs)}
            kept.append(group)
            continue
        group.stores = [(name, place) for name, place in group.stores if place.buffer in wanted]
        needed = {name for name, _ in group.stores}
        body = []
        for statement in reversed(group.body):
            if statement.name not in needed:
                continue
            body.append(statement)
            operands = (
                [statement.operand] if isinstance(statement, Reduction) else statement.operands
            )
            needed |= {o for o in operands if isinstance(o, str)}
            wanted |= {o.buffer for o in operands if hasattr(o, "buffer")}
        group.body = list(reversed(body))
        if group.body:
            kept.append(group)
    program.groups[:] = reversed(kept)
    used = wanted | {r.buffer for g in kept if isinstance(g, Call) for r in _flat(g.outputs)}
    for name in list(program.buffers):
        if name not in used:
            del program.buffers[name]
    return program


def _flat(values: object) -> list[Ref]:
    if isinstance(values, Ref):
        return [values]
    if isinstance(values, (list, tuple)):
        return [ref for value in values for ref in _flat(value)]
    return []
