"""C++ for the largest of windows: torch's result, from loops that become vectors."""

from __future__ import annotations

from typing import Any

import torch

from dovetail.compiler.nodes.aten.schema import arguments
from dovetail.compiler.nodes.aten.text import number
from dovetail.compiler.nodes.base import Call, Operand

__all__ = ["is_pooled", "pool_code"]

_KEY = "aten.max_pool2d_with_indices.default"
_TYPES = {torch.float32: "float", torch.float64: "double"}


def is_pooled(call: Call) -> bool:
    """Whether the loops of ``pools.h`` compute this call."""
    if call.key != _KEY or call.target != "cpu":
        return False
    x, (y, where) = call.inputs[0], call.outputs
    given = [o for o in (x, y, where) if o is not None]
    if x is None or y is None or x.dtype not in _TYPES or not all(o.contiguous for o in given):
        return False
    sizes = (*x.shape[-2:], *y.shape[-2:])
    known = all(isinstance(n, int) for n in sizes) and 0 not in sizes
    return known and sizes[0] * sizes[1] < 2**31


def pool_code(call: Call) -> str:
    """A tasklet's body for a call that :func:`is_pooled`."""
    x, (y, where) = call.inputs[0], call.outputs
    assert x is not None
    assert y is not None
    lists = [_pair(value) for kind, value in arguments(call) if kind == "List[int]"]
    kernel, stride, padding, dilation = lists
    axes = [
        (x.shape[d - 2], y.shape[d - 2], kernel[d], (stride or kernel)[d], padding[d], dilation[d])
        for d in (0, 1)
    ]
    made = ", ".join(f"dovetail_pools::Axis{{{', '.join(map(str, axis))}}}" for axis in axes)
    planes = " * ".join(f"int64_t({number(n)})" for n in x.shape[:-2])
    places = "nullptr" if where is None else _start(where)
    return f"dovetail_pools::largest<{made}>({_start(x)}, {planes}, {_start(y)}, {places});"


def _start(operand: Operand) -> str:
    return operand.data if operand.offset == 0 else f"{operand.data} + {number(operand.offset)}"


def _pair(value: Any) -> Any:
    return tuple(value) * 2 if len(value) == 1 else tuple(value)
