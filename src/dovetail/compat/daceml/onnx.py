"""``import daceml.onnx as donnx``: ``ONNXModel``, and operators such as ``donnx.ONNXConv``."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

import torch
from torch import Tensor

from dovetail.compiler.entry import compile
from dovetail.compiler.module import CompiledModule
from dovetail.compiler.onnx.load import load_onnx
from dovetail.compiler.onnx_ops import operator_in_programs
from dovetail.errors import DovetailError

__all__ = ["ONNXModel"]

#: Of their import: it has no part here.
_IDLE = ("infer_shapes", "onnx_simplify", "simplify", "auto_merge", "parent_pytorch_module")


class ONNXModel:
    """An ONNX model, compiled for the shapes of its first call.

    Called with arrays or tensors, in order or by the names of the graph's inputs; gives arrays, or
    tensors where it was given one. ``weights`` are its parameters and buffers by name.

    >>> from onnx import TensorProto, helper
    >>> node = helper.make_node("Relu", ["x"], ["y"])
    >>> x, y = (helper.make_tensor_value_info(n, TensorProto.FLOAT, [2]) for n in "xy")
    >>> graph = helper.make_graph([node], "g", [x], [y])
    >>> model = helper.make_model(graph, opset_imports=[helper.make_opsetid("", 17)])
    >>> ONNXModel("rectified", model).inputs
    ('x',)
    """

    def __init__(self, name: str, model: Any, auto_optimize: bool = True, **idle: Any) -> None:
        strange = set(idle) - set(_IDLE)
        if strange:
            raise DovetailError(f"ONNXModel has no '{min(strange)}' here")
        self.name = name
        self.model = load_onnx(model)
        self.inputs, self.outputs = self.model.input_names, self.model.output_names
        self._optimize = "default" if auto_optimize else "none"
        self._compiled: CompiledModule | None = None

    @property
    def weights(self) -> dict[str, Tensor]:
        """Parameters and buffers by name."""
        return dict(self.model.state_dict())

    @property
    def sdfg(self) -> Any:
        """The SDFG, once the model was called."""
        if self._compiled is None:
            raise DovetailError("nothing is compiled yet: call the model once")
        return self._compiled.sdfg

    def __call__(self, *args: Any, **kwargs: Any) -> Any:
        """The model's output, or a tuple of several."""
        given = dict(zip(self.inputs, args, strict=False)) | kwargs
        tensors = any(isinstance(value, Tensor) for value in given.values())
        ordered = tuple(torch.as_tensor(given[name]) for name in self.inputs if name in given)
        if self._compiled is None:
            self._compiled = compile(self.model, ordered, optimize=self._optimize, backward=False)
        with torch.no_grad():
            result = self._compiled(*ordered)
        if tensors:
            return result
        return tuple(r.numpy() for r in result) if isinstance(result, tuple) else result.numpy()


def __getattr__(name: str) -> Callable[..., Any]:
    """``ONNXConv`` and all others: the operators of `dovetail.compiler.onnx_ops`."""
    if not name.startswith("ONNX"):
        raise AttributeError(f"module '{__name__}' has no attribute '{name}'")
    made = operator_in_programs(name.removeprefix("ONNX"), __name__, name)
    globals()[name] = made
    return made
