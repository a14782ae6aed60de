"""Each emulated operation as a function of standard ONNX operators."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass
from typing import Any

import torch
from torch import fx

from dovetail._optional import optional
from dovetail.errors import DovetailError
from dovetail.interchange.capture import constants_of, emulated_nodes, module_path
from dovetail.interchange.onnx import casts, layers
from dovetail.interchange.onnx.nodes import DOMAIN, IR_VERSION, opsets
from dovetail.interchange.onnx.operation import ELEMENT_TYPES, Operation

__all__ = ["Function", "functions_of"]

_WRITERS: dict[str, Callable[[Operation], str]] = {
    "linear": layers.linear,
    "conv": layers.conv,
    "matmul": layers.matmul,
    "cast": casts.cast,
    "cast_integers": casts.cast_integers,
    "cast_by_range": casts.cast_by_range,
}
#: What every other operator of this library computes, for those who asked for it.
_OTHERS = {
    "accumulate": "floating-point products summed by an accumulator",
    "float_mac": "a floating-point multiplier",
    "float_matmul": "a floating-point multiplier",
    "block_linear": "products of block formats",
    "block_conv": "products of block formats",
    "block_matmul": "products of block formats",
    "mask": "sparsity of what is computed from the input",
}


@dataclass(frozen=True, eq=False)
class Function:
    """An operation's nodes, from ``inputs`` (nodes of the graph) to one ``output``, by name."""

    operation: Operation
    output: str

    @property
    def node(self) -> fx.Node:
        """The operation in the captured graph."""
        return self.operation.node

    @property
    def name(self) -> str:
        """The function's name in its domain; no other has it."""
        return self.operation.name

    def proto(self) -> Any:
        """The function for a model that calls it."""
        helper = optional("onnx.helper", extra="onnx")
        inputs = [f"x{i}" for i in range(len(self.operation.inputs))]
        made = self.operation.nodes.made
        imported = opsets(functions=False)
        return helper.make_function(DOMAIN, self.name, inputs, [self.output], made, imported)

    def model(self) -> bytes:
        """The function alone, as a file that a runtime can execute."""
        helper = optional("onnx.helper", extra="onnx")
        inputs = [_info(helper, f"x{i}", n) for i, n in enumerate(self.operation.inputs)]
        output = _info(helper, self.output, self.node)
        graph = helper.make_graph(self.operation.nodes.made, self.name, inputs, [output])
        model = helper.make_model(graph, opset_imports=opsets(functions=False))
        model.ir_version = IR_VERSION
        whole: bytes = model.SerializeToString()
        return whole


def _info(helper: Any, name: str, node: fx.Node) -> Any:
    value = node.meta["val"]
    kind = getattr(optional("onnx", extra="onnx").TensorProto, ELEMENT_TYPES[value.dtype])
    return helper.make_tensor_value_info(name, kind, list(value.shape))


def functions_of(graph: fx.GraphModule) -> list[Function]:
    """A function for each emulated operation; refused by name if one cannot be written exactly.

    >>> import dovetail as dv
    >>> from dovetail.interchange.capture import captured
    >>> model, x = torch.nn.Sequential(torch.nn.Linear(4, 2)), torch.ones(3, 4)
    >>> _ = dv.apply_(model, dv.Recipe(dv.rule("*", input="int8", weight="int8")), x)
    >>> [function.name for function in functions_of(captured(model, (x,), {}))]
    ['0_linear_0']
    """
    known = dict(constants_of(graph))
    return [_function(node, known, i) for i, node in enumerate(emulated_nodes(graph))]


def _function(node: fx.Node, known: dict[fx.Node, torch.Tensor], number: int) -> Function:
    kind = str(node.target).split(".")[1]
    write = _WRITERS.get(kind)
    if write is None:
        raise DovetailError(
            f"{module_path(node)}: {_OTHERS.get(kind, kind)} cannot be written to ONNX; what can "
            f"be: products of integer codes, such as input=int8, weight=int8, and casts. Or export "
            "to='golden'"
        )
    operation = Operation(node, known, number)
    return Function(operation, write(operation))
