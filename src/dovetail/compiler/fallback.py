"""Operators run as in eager mode from inside compiled code: the last resort, where it is allowed.

A call is text: the operator's name and its arguments, in which tensors and sizes are numbers of
operands. ``dovetail::eager`` reads it, calls the operator, and copies its results to their places.
"""

from __future__ import annotations

import json
from collections.abc import Iterator, Sequence
from typing import Any

import torch
from torch import Tensor
from torch.library import Library

from dovetail.compiler.groups.model import Call, Constant, Program, Ref
from dovetail.compiler.nodes import EAGER
from dovetail.compiler.nodes.base import is_symbolic
from dovetail.compiler.nodes.call_text import read_value, write_value

__all__ = ["fallbacks", "written"]

_library = Library("dovetail", "FRAGMENT")
_library.define("eager(str call, Tensor(a!)[] results, Tensor?[] inputs, int[] sizes) -> ()")


def fallbacks(program: Program) -> Iterator[tuple[str, str]]:
    """The calls that a program makes in eager mode: the node's name, and the operator's."""
    for group in program.groups:
        if isinstance(group, Call) and group.key.startswith(EAGER):
            yield group.name, group.key.removeprefix(EAGER)


def written(
    key: str, args: Sequence[Any], kwargs: dict[str, Any], wanted: Sequence[int]
) -> tuple[str, list[Ref | Constant], list[Any]]:
    """A call as text, its tensors, and its sizes that are known at the call.

    ``wanted`` are the numbers of the results that are taken.
    """
    tensors: list[Ref | Constant] = []
    sizes: list[Any] = []

    def plain(value: Any) -> Any:
        if isinstance(value, (Ref, Constant)):
            tensors.append(value)
            return {"tensor": len(tensors) - 1}
        if is_symbolic(value) and not value.is_Integer:
            sizes.append(value)
            return {"size": len(sizes) - 1}
        if isinstance(value, (list, tuple)):
            return [plain(v) for v in value]
        return write_value(value)

    text = {
        "key": key,
        "args": plain(list(args)),
        "kwargs": {name: plain(value) for name, value in kwargs.items()},
        "wanted": list(wanted),
    }
    return json.dumps(text), tensors, sizes


def _run(
    call: str, results: Sequence[Tensor], inputs: Sequence[Tensor | None], sizes: Sequence[int]
) -> None:
    def value(plain: Any) -> Any:
        if isinstance(plain, list):
            return [value(v) for v in plain]
        if isinstance(plain, dict) and "tensor" in plain:
            return inputs[plain["tensor"]]
        if isinstance(plain, dict) and "size" in plain:
            return sizes[plain["size"]]
        return read_value(plain)

    read = json.loads(call)
    space, name, overload = read["key"].split(".")
    function = getattr(getattr(getattr(torch.ops, space), name), overload)
    kwargs = {n: value(v) for n, v in read["kwargs"].items()}
    with torch.no_grad():
        made = function(*value(read["args"]), **kwargs)
    made = list(made) if isinstance(made, (tuple, list)) else [made]
    for into, number in zip(results, read["wanted"], strict=True):
        into.copy_(made[number])


_library.impl("eager", _run, "CompositeExplicitAutograd")
