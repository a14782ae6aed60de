"""What follows a convolution, computed where its result is written: activations, residual sums."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass
from typing import Any

import torch
from torch import fx

from dovetail.compiler.passes.constants import constant_of, dropped
from dovetail.compiler.passes.graphs import exact_part, only_user, plain_convolution, rewritten

__all__ = ["fuse_epilogues"]

aten = torch.ops.aten


@dataclass(frozen=True)
class _Activation:
    """A function of oneDNN's, and the node that holds its result."""

    end: fx.Node
    name: str
    scalars: tuple[float, ...] = ()


def fuse_epilogues(graph: fx.GraphModule) -> fx.GraphModule:
    """A float32 convolution with a constant weight, plus another tensor, through an activation.

    What becomes one node is relu, sigmoid, tanh, clamp between numbers, leaky relu, silu and
    hardswish; gelu does not, of which oneDNN turns infinity into NaN. Nothing is fused whose
    result reaches an emulated operator.
    """
    if not torch.backends.mkldnn.is_available():
        return graph
    exact = exact_part(graph)
    for layer in list(graph.graph.nodes):
        if plain_convolution(layer) and layer not in exact and _fits(layer, graph):
            _fuse(graph, layer)
    dropped(graph)
    return graph


def _fits(layer: fx.Node, graph: fx.GraphModule) -> bool:
    value = layer.meta["val"]
    constant = constant_of(layer.args[1], graph) is not None
    return constant and value.dtype == torch.float32 and value.dim() in (4, 5)


def _fuse(graph: fx.GraphModule, layer: fx.Node) -> None:
    x, weight, bias, stride, padding, dilation, _, _, groups = layer.args
    window = (padding, stride, dilation, groups)
    added = _added(layer)
    found = _activation(layer if added is None else added[0])
    scalars = [] if found is None else list(found.scalars)
    if added is None:
        if found is not None:
            args: tuple[Any, ...] = (x, weight, bias, *window, found.name, scalars, "")
            rewritten(graph, found.end, torch.ops.mkldnn._convolution_pointwise.default, args)
        return
    end, other = added
    name = None if found is None else found.name
    args = (x, other, weight, bias, *window, "add", 1.0, name, scalars, "")
    binary = torch.ops.mkldnn._convolution_pointwise.binary
    rewritten(graph, end if found is None else found.end, binary, args)


def _added(layer: fx.Node) -> tuple[fx.Node, fx.Node] | None:
    """The sum of the layer and another tensor of its shape, and that tensor."""
    total = only_user(layer)
    if total is None or total.target is not aten.add.Tensor or total.kwargs:
        return None
    others = [a for a in total.args if a is not layer]
    if len(others) != 1 or not isinstance(others[0], fx.Node):
        return None
    one, two = layer.meta["val"], others[0].meta["val"]
    same = isinstance(two, torch.Tensor) and (one.shape, one.dtype) == (two.shape, two.dtype)
    return (total, others[0]) if same and one.stride() == two.stride() else None


def _activation(node: fx.Node) -> _Activation | None:
    for find in _FINDERS:
        found = find(node)
        if found is not None:
            return found
    return None


_SINGLE = {
    aten.relu.default: "relu",
    aten.sigmoid.default: "sigmoid",
    aten.tanh.default: "tanh",
}


def _single(node: fx.Node) -> _Activation | None:
    user = only_user(node)
    if user is None or user.target not in _SINGLE:
        return None
    return _Activation(user, _SINGLE[user.target])


def _clamped(node: fx.Node) -> _Activation | None:
    user = only_user(node)
    if user is None or user.target not in (aten.hardtanh.default, aten.clamp.default):
        return None
    bounds: tuple[Any, ...] = user.args[1:]
    if user.target is aten.hardtanh.default:
        bounds = (*bounds, *(-1, 1)[len(bounds) :])
    if len(bounds) != 2 or user.kwargs or not all(isinstance(b, (int, float)) for b in bounds):
        return None
    return _Activation(user, "hardtanh", (float(bounds[0]), float(bounds[1])))


def _swish(node: fx.Node) -> _Activation | None:
    gate = _with_target(node, aten.sigmoid.default, (node,))
    end = only_user(gate)
    if end is None or end.target is not aten.mul.Tensor or set(node.users) != {gate, end}:
        return None
    return _Activation(end, "swish") if set(end.args) == {node, gate} else None


def _hardswish(node: fx.Node) -> _Activation | None:
    raised = _with_target(node, aten.add.Tensor, (node, 3))
    low = raised and _with_target(raised, aten.clamp.default, (raised, 0))
    high = low and _with_target(low, aten.clamp.default, (low, None, 6))
    product = only_user(high)
    end = only_user(product)
    chain = all(only_user(n) is not None for n in (raised, low))
    if end is None or product is None or not chain or set(node.users) != {raised, product}:
        return None
    fits = product.target is aten.mul.Tensor and set(product.args) == {node, high}
    sixth = end.target is aten.div.Tensor and end.args == (product, 6)
    return _Activation(end, "hardswish") if fits and sixth else None


def _leaky(node: fx.Node) -> _Activation | None:
    above = _with_target(node, aten.gt.Scalar, (node, 0))
    end = only_user(above)
    if end is None or end.target is not aten.where.self or len(end.args) != 3:
        return None
    less: Any = end.args[2]
    fits = end.args[:2] == (above, node) and isinstance(less, fx.Node)
    if not fits or less.target is not aten.mul.Tensor or less.args[0] is not node:
        return None
    slope = less.args[1]
    own = set(node.users) == {above, end, less} and only_user(less) is end
    if not own or not isinstance(slope, float):
        return None
    return _Activation(end, "leaky_relu", (slope,))


def _with_target(node: fx.Node, target: Any, args: tuple[Any, ...]) -> fx.Node | None:
    return next((u for u in node.users if u.target is target and tuple(u.args) == args), None)


_FINDERS: tuple[Callable[[fx.Node], _Activation | None], ...] = (
    _single,
    _clamped,
    _swish,
    _hardswish,
    _leaky,
)
