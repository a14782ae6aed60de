"""Constants of a captured graph: parameters that are frozen, and what can be computed of them."""

from __future__ import annotations

from collections.abc import Iterator
from typing import Any

import torch
from torch import Tensor, fx
from torch._subclasses.fake_tensor import FakeTensorMode

__all__ = ["FROZEN", "constant_of", "fold_constants", "freeze_parameters", "place"]

#: Where a placeholder's metadata holds the tensor that it is frozen to.
FROZEN = "dovetail_frozen"
#: A constant made of others may be this much larger than they are, or have this many bytes.
GROWTH, SMALL = 2, 65_536


def freeze_parameters(graph: fx.GraphModule) -> fx.GraphModule:
    """Inputs that ``compile(..., freeze=True)`` marks become constants of the graph."""
    for node in graph.graph.find_nodes(op="placeholder"):
        value = node.meta.pop(FROZEN, None)
        if value is not None:
            node.replace_all_uses_with(place(graph, value, node, node.meta["val"]))
            graph.graph.erase_node(node)
    graph.recompile()
    return graph


def constant_of(value: Any, graph: fx.GraphModule) -> Tensor | None:
    """The tensor that a node is, where it is a constant of ``graph``."""
    if not isinstance(value, fx.Node) or value.op != "get_attr":
        return None
    found = getattr(graph, str(value.target), None)
    return found if isinstance(found, Tensor) else None


def place(graph: fx.GraphModule, value: Tensor, near: fx.Node, like: Any = None) -> fx.Node:
    """A node for the constant ``value``, after the inputs; ``like`` is its fake tensor."""
    number = 0
    while hasattr(graph, name := f"{near.name}_constant{number or ''}"):
        number += 1
    graph.register_buffer(name, value, persistent=False)
    first = next(n for n in graph.graph.nodes if n.op not in ("placeholder", "get_attr"))
    with graph.graph.inserting_before(first):
        node = graph.graph.create_node("get_attr", name)
    node.meta["val"] = faked(value, near) if like is None else like
    return node


def faked(value: Tensor, near: fx.Node) -> Any:
    """``value`` without its elements, as the other nodes around ``near`` know theirs."""
    found = near.meta.get("val")
    for one in found if isinstance(found, (tuple, list)) else [found]:
        mode = getattr(one, "fake_mode", None)
        if isinstance(mode, FakeTensorMode):
            return mode.from_tensor(value, static_shapes=True)
    return value


def fold_constants(graph: fx.GraphModule) -> fx.GraphModule:
    """What depends on constants alone is computed now, by the operators themselves.

    The bits are those of eager mode. What draws random numbers stays, and what would be much
    larger than what it is made of.
    """
    known: dict[fx.Node, Any] = {}
    for node in graph.graph.nodes:
        found = constant_of(node, graph)
        if found is not None:
            known[node] = found
        elif _foldable(node) and node.all_input_nodes and known.keys() >= {*node.all_input_nodes}:
            value = _computed(node, known)
            if _is_worth(value, [known[n] for n in node.all_input_nodes]):
                known[node] = value
    for node, value in known.items():
        used = any(user not in known for user in node.users)
        if node.op != "get_attr" and used and isinstance(value, Tensor):
            node.replace_all_uses_with(place(graph, value, node, node.meta.get("val")))
    dropped(graph)
    return graph


def _foldable(node: fx.Node) -> bool:
    if node.op != "call_function":
        return False
    overload = node.target
    if not isinstance(overload, torch._ops.OpOverload):
        return getattr(overload, "__name__", "") == "getitem"
    random = torch.Tag.nondeterministic_seeded in overload.tags
    return not random and not overload._schema.is_mutable


def _computed(node: fx.Node, known: dict[fx.Node, Any]) -> Any:
    args, kwargs = fx.map_arg((node.args, dict(node.kwargs)), lambda n: known[n])
    assert callable(node.target)
    with torch.no_grad():
        return node.target(*args, **kwargs)


def _is_worth(value: Any, made_of: list[Any]) -> bool:
    most = max(GROWTH * sum(map(_bytes, _tensors(made_of))), SMALL)
    return sum(map(_bytes, _tensors(value))) <= most


def _bytes(value: Tensor) -> int:
    return value.untyped_storage().nbytes()


def _tensors(value: Any) -> Iterator[Tensor]:
    if isinstance(value, Tensor):
        yield value
    elif isinstance(value, (tuple, list)):
        for item in value:
            yield from _tensors(item)


def dropped(graph: fx.GraphModule) -> None:
    """Take out what nothing uses, and its constants."""
    graph.graph.eliminate_dead_code(is_impure_node=lambda n: n.op in ("placeholder", "output"))
    used = {str(n.target) for n in graph.graph.find_nodes(op="get_attr")}
    for name in [n for n, _ in graph.named_buffers() if n not in used]:
        delattr(graph, name)
    graph.recompile()
