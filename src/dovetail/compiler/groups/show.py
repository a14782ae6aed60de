"""A program as text: one line per group, its statements below it."""

from __future__ import annotations

from typing import Any

import torch

from dovetail.compiler.groups.model import (
    Access,
    Call,
    Group,
    Index,
    Loops,
    Program,
    Reduction,
    Ref,
    Statement,
    View,
)

__all__ = ["line", "text"]

_SHORT = {
    torch.float64: "f64",
    torch.float32: "f32",
    torch.float16: "f16",
    torch.bfloat16: "bf16",
    torch.int64: "i64",
    torch.int32: "i32",
    torch.int16: "i16",
    torch.int8: "i8",
    torch.uint8: "u8",
    torch.bool: "bool",
}


def short(dtype: torch.dtype) -> str:
    """``f32`` for float32, and so on."""
    return _SHORT.get(dtype, str(dtype).removeprefix("torch."))


def _shape(dims: tuple[Any, ...]) -> str:
    return "[" + ", ".join(str(d) for d in dims) + "]"


def _ref(value: Any) -> str:
    if isinstance(value, Ref):
        place = "" if value.layout.is_contiguous and not value.layout.offset else " strided"
        return f"{value.buffer}{_shape(value.shape)}{place}"
    if isinstance(value, (list, tuple)):
        return "(" + ", ".join(_ref(v) for v in value) + ")"
    return "-" if value is None else str(value)


def _operand(operand: Any) -> str:
    if isinstance(operand, Access):
        return operand.buffer + ("*" if any(s == 0 for s in operand.strides) else "")
    return "index" if isinstance(operand, Index) else str(operand)


def line(group: Group) -> str:
    """The head of a group: its kind, and where it runs.

    >>> from dovetail.compiler.groups.model import Loops
    >>> line(Loops((4, 8), (False, True)))
    'RowReduction [4, 8] over [8]'
    """
    if isinstance(group, Loops):
        if group.is_reduction:
            return f"RowReduction {_shape(group.shape)} over {_shape(group.reduced_shape)}"
        return f"Elementwise {_shape(group.shape)}"
    if isinstance(group, Call):
        results = ", ".join(_ref(ref) for ref in group.outputs if ref is not None)
        arguments = ", ".join(_ref(ref) for ref in group.inputs)
        return f"Call {results} = {group.key}({arguments})"
    return f"View {group.name} = {_ref(group.source)}"


def _statement(statement: Statement | Reduction, stored: dict[str, str]) -> str:
    kept = f" -> {stored[statement.name]}" if statement.name in stored else ""
    if isinstance(statement, Reduction):
        code = f"{statement.kind}({_operand(statement.operand)})"
    else:
        code = statement.code.format(*(_operand(o) for o in statement.operands))
    row = "row " if statement.row else ""
    return f"    {row}{statement.name}: {short(statement.dtype)} = {code}{kept}"


def text(program: Program) -> str:
    """All groups of a program, in the order they run."""
    lines = [f"program {program.name}({', '.join(i for i in program.inputs if i is not None)})"]
    for number, group in enumerate(program.groups):
        lines.append(f"{number:3d} {line(group)}")
        if isinstance(group, Loops):
            stored: dict[str, str] = {}
            for name, place in group.stores:
                stored[name] = f"{stored[name]}, {place.buffer}" if name in stored else place.buffer
            lines += [_statement(s, stored) for s in group.body]
    lines.append("return " + ", ".join(_ref(o) for o in program.outputs))
    return "\n".join(lines)


def is_view(group: Group) -> bool:
    """Whether the group emits nothing."""
    return isinstance(group, View)
