"""Weights that are constants are kept in the order that kernels read them in."""

from __future__ import annotations

import torch
from torch import fx

from dovetail.compiler.passes.constants import constant_of, dropped, place
from dovetail.compiler.passes.graphs import CONVOLUTION, exact_part

__all__ = ["pack_weights"]

_POINTWISE = torch.ops.mkldnn._convolution_pointwise
_PLACES = {CONVOLUTION: 1, _POINTWISE.default: 1, _POINTWISE.binary: 2}
_PRODUCTS = {torch.ops.aten.mm.default: 1, torch.ops.aten.addmm.default: 2}
_EMULATED = ("linear", "conv", "block_linear", "block_conv")
_PLACES |= _PRODUCTS | {getattr(torch.ops.dovetail, name).default: 1 for name in _EMULATED}


def pack_weights(graph: fx.GraphModule) -> fx.GraphModule:
    """Layers whose weight is a constant are told so: it is packed once, at their first call.

    The second matrix of a product is laid out in rows. A float layer whose result reaches an
    emulated operator stays: another kernel might round its sums differently. Emulated layers have
    the same bits however their weight is packed.
    """
    exact = exact_part(graph)
    for node in list(graph.graph.nodes):
        number = _PLACES.get(node.target)
        weight = None if number is None else constant_of(node.args[number], graph)
        if weight is None or (node in exact and not str(node.target).startswith("dovetail.")):
            continue
        if node.target in _PRODUCTS:
            if not weight.is_contiguous():
                node.update_arg(number, place(graph, weight.contiguous(), node))
        else:
            node.meta["attributes"] = {"frozen": True}
    dropped(graph)
    return graph
