"""Operators as the dispatcher knows them: schemas, and a call's arguments in their order."""

from __future__ import annotations

from functools import lru_cache
from typing import Any

import torch

from dovetail.compiler.nodes.base import Call, Operand
from dovetail.errors import DovetailError

__all__ = ["arguments", "boxable", "found", "out_variant"]

_TENSORS = ("Tensor", "Optional[Tensor]")
_TENSOR_LISTS = ("List[Tensor]", "List[Optional[Tensor]]")
_PLAIN = ("int", "float", "bool", "str", "ScalarType", "Layout", "Device", "MemoryFormat")
_NEVER_GIVEN = ("Optional[Generator]", "Optional[number]")


@lru_cache(maxsize=4096)
def found(key: str) -> Any:
    """The overload of that name (``"aten.mm.default"``), or None."""
    parts = key.split(".")
    if len(parts) != 3:
        return None
    packet = getattr(getattr(torch.ops, parts[0]), parts[1], None)
    return getattr(packet, parts[2], None)


@lru_cache(maxsize=4096)
def boxable(key: str) -> str | None:
    """Why the operator cannot be called through the boxed dispatcher; None where it can be."""
    overload = found(key)
    if overload is None:
        return f"torch has no operator '{key}'"
    schema = overload._schema
    if schema.is_mutable or any(r.alias_info is not None for r in schema.returns):
        return f"{key} changes or aliases its arguments"
    for argument in schema.arguments:
        if not _known(kind := _kind(argument)):
            return f"{key} takes '{argument.name}', a {kind}, which has no C form"
    if any(str(r.type) != "Tensor" for r in schema.returns):
        return f"{key} returns more than tensors"
    return None


def _kind(argument: Any) -> str:
    return str(argument.real_type).replace("SymInt", "int")


def _known(kind: str) -> bool:
    if kind in (*_TENSORS, *_TENSOR_LISTS, *_NEVER_GIVEN):
        return True
    for wrapper in ("Optional[", "List["):
        if kind.startswith(wrapper):
            return _known(kind[len(wrapper) : -1])
    return kind in _PLAIN


def out_variant(key: str) -> Any:
    """The overload that writes into given tensors and is more than a copy, or None."""
    overload = found(key)
    schema = overload._schema
    plain = [(a.name, _kind(a)) for a in schema.arguments]
    for name in overload.overloadpacket.overloads():
        other = getattr(overload.overloadpacket, name)
        outs = [a for a in other._schema.arguments if a.is_out]
        rest = [(a.name, _kind(a)) for a in other._schema.arguments if not a.is_out]
        if rest == plain and outs and len(outs) == len(schema.returns):
            return None if torch.Tag.generated in other.tags else other
    return None


def arguments(call: Call) -> list[tuple[str, Any]]:
    """Every argument in the order of the schema: its type, and its operands or its constant."""
    schema = found(call.key)._schema
    kinds = [_kind(a) for a in schema.arguments]
    single = sum(kind in _TENSORS for kind in kinds)
    inputs = list(call.inputs)
    made: list[tuple[str, Any]] = []
    for argument, kind in zip(schema.arguments, kinds, strict=True):
        if kind in _TENSORS:
            made.append((kind, inputs.pop(0) if inputs else None))
        elif kind in _TENSOR_LISTS:
            count = len(call.inputs) - single
            made.append((kind, [inputs.pop(0) for _ in range(count)]))
        else:
            made.append((kind, _constant(call, argument)))
    if inputs:
        raise DovetailError(f"{call.key} takes fewer tensors than {len(call.inputs)}")
    return made


def _constant(call: Call, argument: Any) -> Any:
    if argument.name in call.attributes:
        value = call.attributes[argument.name]
    elif argument.has_default_value():
        value = argument.default_value
    else:
        raise DovetailError(f"{call.key} needs '{argument.name}'")
    spread = isinstance(argument.type, torch.ListType) and not isinstance(value, (list, tuple))
    if spread and not isinstance(value, Operand):
        return [value] * (argument.N or 1)
    return value
