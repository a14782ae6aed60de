"""Batch norm of constants folded into the weights before it."""

from __future__ import annotations

import operator
from collections.abc import Sequence
from typing import Any

import torch
from torch import Tensor, fx

from dovetail.compiler.passes.constants import constant_of, dropped, place
from dovetail.compiler.passes.graphs import CONVOLUTION, exact_part, rewritten

__all__ = ["fold_batch_norm"]

aten = torch.ops.aten
_NORM = aten._native_batch_norm_legit_no_training.default


def fold_batch_norm(graph: fx.GraphModule) -> fx.GraphModule:
    """A convolution or a linear layer, then batch norm by running statistics: one layer.

    All of it must be constants. The new weights are computed in float64 and rounded once. Nothing
    is folded whose result reaches an emulated operator.
    """
    exact = exact_part(graph)
    for norm in graph.graph.find_nodes(op="call_function", target=_NORM):
        layer = norm.args[0]
        if layer in exact or not isinstance(layer, fx.Node) or len(layer.users) != 1:
            continue
        found = _scale_and_shift(norm, graph)
        parts = _parts(layer, graph)
        if found is not None and parts is not None and _takes_values_alone(norm):
            _fold(graph, norm, layer, parts, found)
    dropped(graph)
    return graph


def _takes_values_alone(norm: fx.Node) -> bool:
    return all(u.target is operator.getitem and u.args[1] == 0 for u in norm.users)


def _scale_and_shift(norm: fx.Node, graph: fx.GraphModule) -> tuple[Tensor, Tensor] | None:
    _, *given, _, eps = norm.args
    values = [None if g is None else constant_of(g, graph) for g in given]
    if any(v is None and g is not None for v, g in zip(values, given, strict=True)):
        return None
    weight, bias, mean, variance = (None if v is None else v.detach().double() for v in values)
    assert mean is not None
    assert variance is not None
    assert isinstance(eps, float)
    scale = (variance + eps).rsqrt()
    scale = scale if weight is None else scale * weight
    return scale, (-mean * scale if bias is None else bias - mean * scale)


def _parts(layer: fx.Node, graph: fx.GraphModule) -> tuple[Tensor, Tensor | None, int] | None:
    """The layer's weight, its bias, and the weight's dimension that is the outputs'."""
    args: Sequence[Any] = layer.args
    if layer.target is CONVOLUTION:
        transposed, groups = args[6], args[8]
        if transposed and groups != 1:
            return None
        given, dim = (args[1], args[2]), int(transposed)
    elif layer.target is aten.addmm.default and not layer.kwargs:
        given, dim = (args[2], args[0]), 1
    elif layer.target is aten.mm.default:
        given, dim = (args[1], None), 1
    else:
        return None
    weight, bias = (constant_of(g, graph) for g in given)
    if weight is None or (bias is None and given[1] is not None):
        return None
    fits = bias is None or bias.shape == weight.shape[dim : dim + 1]
    return (weight, bias, dim) if fits else None


def _fold(
    graph: fx.GraphModule,
    norm: fx.Node,
    layer: fx.Node,
    parts: tuple[Tensor, Tensor | None, int],
    found: tuple[Tensor, Tensor],
) -> None:
    (weight, bias, dim), (scale, shift) = parts, found
    along = [1] * weight.dim()
    along[dim] = -1
    scaled = (weight.detach().double() * scale.reshape(along)).to(weight.dtype)
    moved = shift if bias is None else shift + bias.detach().double() * scale
    weight_node = place(graph, scaled, layer)
    bias_node = place(graph, moved.to(weight.dtype), layer)
    args: list[Any] = list(layer.args)
    if layer.target is CONVOLUTION:
        made = rewritten(graph, layer, CONVOLUTION, [args[0], weight_node, bias_node, *args[3:]])
    else:
        x = args[-2]
        made = rewritten(graph, layer, aten.addmm.default, [bias_node, x, weight_node])
    for user in list(norm.users):
        user.replace_all_uses_with(made)
