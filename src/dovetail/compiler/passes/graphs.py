"""What passes over captured graphs ask of a node."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

import torch
from torch import fx

__all__ = ["CONVOLUTION", "exact_part", "only_user", "plain_convolution", "rewritten"]

CONVOLUTION = torch.ops.aten.convolution.default


def exact_part(graph: fx.GraphModule) -> set[fx.Node]:
    """The nodes whose results reach an emulated operator: one last place of a float before a cast
    may move a whole code, so that these must keep every bit."""
    found: set[fx.Node] = set()
    for node in reversed(graph.graph.nodes):
        emulated = str(node.target).startswith("dovetail.")
        if node in found or emulated:
            found.update(node.all_input_nodes)
            if emulated:
                found.add(node)
    return found


def only_user(node: Any) -> fx.Node | None:
    """The one node that uses the result of ``node``."""
    if not isinstance(node, fx.Node) or len(node.users) != 1:
        return None
    return next(iter(node.users))


def plain_convolution(node: Any) -> bool:
    """Whether the node is a convolution that is not transposed."""
    return isinstance(node, fx.Node) and node.target is CONVOLUTION and not node.args[6]


def rewritten(
    graph: fx.GraphModule, node: fx.Node, target: Any, args: Sequence[Any], **meta: Any
) -> fx.Node:
    """``node`` replaced by another operator with the same result."""
    with graph.graph.inserting_before(node):
        made = graph.graph.call_function(target, tuple(args))
    made.meta = {**node.meta, **meta}
    node.replace_all_uses_with(made)
    graph.graph.erase_node(node)
    return made
