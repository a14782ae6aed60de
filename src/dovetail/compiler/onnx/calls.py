"""The nodes of a ``GraphProto``, each with its operator, its attributes and what it uses."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any

import torch
from torch import Tensor

from dovetail.compiler.onnx.attributes import attributes_of, graphs_of, tensor_of
from dovetail.compiler.onnx.registry import Operator, find
from dovetail.errors import DovetailError

__all__ = ["Call", "call_of", "dense"]


@dataclass
class Call:
    """A node while the graph is built; ``captured`` are values that its bodies use."""

    proto: Any
    name: str
    operator: Operator
    opset: int
    inputs: list[str]
    outputs: list[str]
    attributes: dict[str, Any]
    captured: tuple[str, ...]


def call_of(node: Any, at: int, opsets: Mapping[str, int]) -> Call:
    """The node that stands ``at`` a place of its graph, or the error that says what it lacks."""
    domain = "" if node.domain == "ai.onnx" else node.domain
    opset = opsets.get(domain, 1)
    name = node.name or f"{node.op_type}_{at}"
    try:
        operator = find(domain, node.op_type, opset)
        attributes = attributes_of(node)
    except DovetailError as error:
        raise DovetailError(f"node '{name}' ({node.op_type}, opset {opset}): {error}") from None
    captured = tuple(sorted(set().union(*map(_free, graphs_of(node).values()))))
    strange = set(attributes) - operator.parameters
    if strange:
        raise DovetailError(
            f"node '{name}' ({node.op_type}, opset {opset}): attribute '{min(strange)}' is "
            f"not supported; it takes {', '.join(sorted(operator.parameters)) or 'none'}"
        )
    inputs, outputs = [*node.input, *captured], list(node.output)
    while outputs and not outputs[-1]:
        outputs.pop()
    return Call(node, name, operator, opset, inputs, outputs, attributes, captured)


def _free(graph: Any) -> set[str]:
    """The values of an enclosing graph that a body uses."""
    own = {i.name for i in graph.input} | {i.name for i in graph.initializer}
    own |= {output for node in graph.node for output in node.output} | {""}
    used = {name for node in graph.node for name in node.input}
    used |= {output.name for output in graph.output}
    used |= {
        name for node in graph.node for body in graphs_of(node).values() for name in _free(body)
    }
    return used - own


def dense(sparse: Any) -> Tensor:
    """A sparse initialiser with its zeros."""
    values, indices = tensor_of(sparse.values), tensor_of(sparse.indices)
    dense = torch.zeros(*sparse.dims, dtype=values.dtype)
    if indices.dim() == 2:
        dense[tuple(indices.t())] = values
    else:
        dense.view(-1)[indices] = values
    return dense
