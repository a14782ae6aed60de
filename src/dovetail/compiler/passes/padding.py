"""Zeros around an image that the convolution after it can imagine."""

from __future__ import annotations

from typing import Any

import torch
from torch import fx

from dovetail.compiler.passes.constants import dropped
from dovetail.compiler.passes.graphs import (
    CONVOLUTION,
    exact_part,
    only_user,
    plain_convolution,
    rewritten,
)

__all__ = ["fold_padding"]

_PAD = torch.ops.aten.constant_pad_nd.default


def fold_padding(graph: fx.GraphModule) -> fx.GraphModule:
    """Padding by zeros, the same on both sides, that only a convolution reads: its own padding.

    Nothing is folded whose result reaches an emulated operator.
    """
    exact = exact_part(graph)
    for pad in graph.graph.find_nodes(op="call_function", target=_PAD):
        layer = only_user(pad)
        if layer is None or layer in exact or not plain_convolution(layer):
            continue
        args: list[Any] = list(layer.args)
        more = _padding(pad, len(args[4]))
        if more is not None and args[0] is pad:
            args[0], args[4] = pad.args[0], [a + b for a, b in zip(args[4], more, strict=True)]
            rewritten(graph, layer, CONVOLUTION, args)
    dropped(graph)
    return graph


def _padding(pad: fx.Node, spatial: int) -> list[int] | None:
    """Zeros before each spatial dimension, where as many stand behind and nowhere else."""
    given: Any = pad.args[1]
    if len(pad.args) > 2 and pad.args[2] != 0:
        return None
    pairs = list(zip(given[::2], given[1::2], strict=True))
    if any(low != high or low < 0 for low, high in pairs):
        return None
    if any(low for low, _ in pairs[spatial:]):
        return None
    inner = [low for low, _ in pairs[:spatial]]
    return list(reversed(inner + [0] * (spatial - len(inner))))
