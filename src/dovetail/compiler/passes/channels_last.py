"""Images with their channels side by side: how oneDNN computes convolutions best."""

from __future__ import annotations

from typing import Any

import torch
from torch import fx

from dovetail.compiler.passes.constants import constant_of, dropped, place
from dovetail.compiler.passes.graphs import plain_convolution

__all__ = ["channels_last"]

aten = torch.ops.aten
_LAST = torch.channels_last


def channels_last(graph: fx.GraphModule) -> fx.GraphModule:
    """Convolutions of images with constant weights read and write channels last.

    What lies between them follows, as it does in torch; the graph's results keep their strides.
    Nothing changes where a weight is no constant (it would be turned at every call), where sizes
    are open, and in graphs with emulated operators.
    """
    layers = [n for n in graph.graph.nodes if _is_float_convolution(n)]
    weights = [constant_of(layer.args[1], graph) for layer in layers]
    if not layers or any(w is None for w in weights) or not _settled(graph):
        return graph
    for layer, weight in zip(layers, weights, strict=True):
        assert weight is not None
        if weight.dim() == 4:
            turned = weight.detach().contiguous(memory_format=_LAST)
            layer.update_arg(1, place(graph, turned, layer))
    _laid_anew(graph, set(layers))
    dropped(graph)
    return graph


def _is_float_convolution(node: fx.Node) -> bool:
    return plain_convolution(node) and node.meta["val"].dtype == torch.float32


def _settled(graph: fx.GraphModule) -> bool:
    for node in graph.graph.nodes:
        if str(node.target).startswith("dovetail."):
            return False
        found = node.meta.get("val")
        for value in found if isinstance(found, (tuple, list)) else [found]:
            if isinstance(value, torch.SymInt):
                return False
            if isinstance(value, torch.Tensor) and value._has_symbolic_sizes_strides:
                return False
    return True


def _laid_anew(graph: fx.GraphModule, layers: set[fx.Node]) -> None:
    """Every node's strides, now that ``layers`` have their images channels last."""
    (end,) = graph.graph.find_nodes(op="output")
    returned = {n: n.meta["val"] for n in end.all_input_nodes}
    for node in list(graph.graph.nodes):
        if node.op != "call_function":
            continue
        if node in layers:
            _turn(graph, node)
        if node.target in (aten.view.default, aten._unsafe_view.default):
            node.target = aten.reshape.default  # which copies where strides make it
        node.meta["val"] = _faked(node)
    for node, old in returned.items():
        new = node.meta["val"]
        if isinstance(new, torch.Tensor) and new.stride() != old.stride():
            order = torch.contiguous_format if old.is_contiguous() else torch.preserve_format
            with graph.graph.inserting_before(end):
                clone = aten.clone.default
                back = graph.graph.call_function(clone, (node,), {"memory_format": order})
            back.meta["val"] = old
            end.replace_input_with(node, back)


def _turn(graph: fx.GraphModule, layer: fx.Node) -> None:
    """The layer's image channels last: a copy where it is not."""
    image: Any = layer.args[0]
    if image.meta["val"].dim() != 4 or image.meta["val"].is_contiguous(memory_format=_LAST):
        return
    with graph.graph.inserting_before(layer):
        turned = graph.graph.call_function(aten.clone.default, (image,), {"memory_format": _LAST})
    turned.meta["val"] = _faked(turned)
    layer.replace_input_with(image, turned)


def _faked(node: fx.Node) -> Any:
    args, kwargs = fx.map_arg((node.args, dict(node.kwargs)), lambda n: n.meta["val"])
    assert callable(node.target)
    found = node.meta.get("val")
    every = [n.meta.get("val") for n in node.all_input_nodes]
    mode = next((m for v in (found, *every) if (m := getattr(v, "fake_mode", None))), None)
    if mode is None:
        return node.target(*args, **kwargs)
    with mode:
        return node.target(*args, **kwargs)
