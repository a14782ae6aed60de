"""ONNX models written out by hand."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

import numpy as np
import onnx
from onnx import TensorProto, helper, numpy_helper


def value(name: str, kind: int = TensorProto.FLOAT, shape: Sequence[Any] | None = None) -> Any:
    return helper.make_tensor_value_info(name, kind, shape)


def tensor(name: str, array: Any) -> Any:
    return numpy_helper.from_array(np.asarray(array), name)


def model(
    nodes: Sequence[Any],
    inputs: Sequence[Any] = (),
    outputs: Sequence[Any] = (),
    tensors: Sequence[Any] = (),
    opset: int = 17,
    **options: Any,
) -> onnx.ModelProto:
    """A model of one graph; names of inputs and outputs alone are of float32."""
    given = [value(i) if isinstance(i, str) else i for i in inputs]
    asked = [value(o) if isinstance(o, str) else o for o in outputs]
    graph = helper.make_graph(list(nodes), "graph", given, asked, list(tensors))
    imports = [helper.make_opsetid("", opset), helper.make_opsetid("local", 1)]
    return helper.make_model(graph, opset_imports=imports, **options)


node = helper.make_node
