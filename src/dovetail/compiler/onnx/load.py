"""ONNX models to torch modules."""

from __future__ import annotations

import contextlib
import fnmatch
import os
from collections.abc import Callable, Sequence
from pathlib import Path
from typing import Any

from dovetail._optional import optional
from dovetail.compiler.onnx.graph import OnnxGraph
from dovetail.compiler.onnx.registry import names
from dovetail.compiler.onnx.types import NARROW, type_name
from dovetail.errors import DovetailError

__all__ = ["load_onnx"]

#: Of one protobuf: larger models cannot be passed to ONNX's own tools.
_LARGEST = 2**31 - 1


def load_onnx(
    model: str | os.PathLike[str] | Any, *, trainable: bool | Sequence[str] = True
) -> OnnxGraph:
    """An ONNX model as a torch module of plain torch calls, in evaluation mode.

    ``model`` is a path or a ``ModelProto``, of any opset that the onnx package knows (the oldest
    versions of some operators excepted), whichever exporter wrote it; data in other files, local
    functions and control flow are read too. Nodes whose weights are constants become layers of
    `torch.nn`, all others call torch functions, each in a module of its own at the node's name:
    recipes, `torch.export`, `torch.compile`, copies and pickles work as on any module. Where torch
    wrote the model, parameters have their names in torch.

    ``trainable`` says which floating-point initialisers are parameters: all that can be weights,
    none, or those that match one of the patterns; the rest are buffers, or frozen in their layer.
    Constants and scales never are, nor are single numbers and what the exporter only numbered,
    unless an operator takes them as its weights. Types below a byte are held by
    value in the next type that torch has. Text and the classical-learning domain are refused, with
    the node, its operator, the opset and what is nearest.

    >>> from onnx import helper, numpy_helper, TensorProto
    >>> import numpy as np, torch
    >>> weight = numpy_helper.from_array(np.ones((2, 3), np.float32), "fc.weight")
    >>> node = helper.make_node("Gemm", ["x", "fc.weight"], ["y"], transB=1)
    >>> x = helper.make_tensor_value_info("x", TensorProto.FLOAT, [None, 3])
    >>> y = helper.make_tensor_value_info("y", TensorProto.FLOAT, [None, 2])
    >>> graph = helper.make_graph([node], "example", [x], [y], [weight])
    >>> load_onnx(helper.make_model(graph, opset_imports=[helper.make_opsetid("", 17)]))
    OnnxGraph(
      (fc): Linear(in_features=3, out_features=2, bias=False)
    )
    """
    # Imported when a model is: `import dovetail` stays light.
    from dovetail.compiler.onnx.build import Settings, build

    onnx = optional("onnx", extra="onnx")
    proto = _read(model, onnx)
    opsets = {_domain(entry.domain): entry.version for entry in proto.opset_import}
    _check_opset(opsets.get("", 1), onnx)
    proto = _inlined(proto, onnx)
    settings = Settings(opsets, _chosen(trainable), *_facts(proto, onnx))
    module = build(proto.graph, settings)
    return module.eval()


def _read(model: Any, onnx: Any) -> Any:
    if isinstance(model, onnx.ModelProto):
        return model
    if not isinstance(model, (str, os.PathLike)):
        raise DovetailError(f"expected a path or an onnx.ModelProto, got {type(model).__name__}")
    if not Path(model).is_file():
        raise DovetailError(f"there is no file '{os.fspath(model)}'")
    try:
        return onnx.load(model)
    except Exception as error:  # protobuf raises its own kinds
        raise DovetailError(f"'{os.fspath(model)}' is no ONNX model: {error}") from error


def _domain(domain: str) -> str:
    return "" if domain == "ai.onnx" else domain


def _check_opset(opset: int, onnx: Any) -> None:
    newest = onnx.defs.onnx_opset_version()
    if not 1 <= opset <= newest:
        raise DovetailError(
            f"the model has opset {opset}; supported are 1 to {newest} "
            "(onnx.version_converter changes it)"
        )


def _inlined(proto: Any, onnx: Any) -> Any:
    """The model without functions: its own, and those that define operators we have none for."""
    inliner = optional("onnx.inliner", extra="onnx")
    if proto.functions:
        proto = inliner.inline_local_functions(proto)
    missing = _missing(proto.graph, onnx)
    while missing:
        proto = inliner.inline_selected_functions(
            proto, sorted(missing), inline_schema_functions=True
        )
        left = _missing(proto.graph, onnx)
        missing = left if left != missing else set()
    return proto


def _missing(graph: Any, onnx: Any) -> set[tuple[str, str]]:
    """Operators without a function here whose meaning ONNX defines by others."""
    found: set[tuple[str, str]] = set()
    for node in graph.node:
        domain = _domain(node.domain)
        if node.op_type not in names(domain) and onnx.defs.has(node.op_type, domain):
            schema = onnx.defs.get_schema(node.op_type, domain)
            if schema.has_function or schema.has_context_dependent_function:
                found.add((domain, node.op_type))
        for attribute in node.attribute:
            if attribute.HasField("g"):
                found |= _missing(attribute.g, onnx)
    return found


def _facts(proto: Any, onnx: Any) -> tuple[dict[str, int], dict[str, int]]:
    """Ranks, and element types of less than a byte, that shape inference finds by name.

    Large models, and those it does not understand, are left with what they say themselves.
    """
    if proto.ByteSize() <= _LARGEST:
        # It minds contradictory types; torch may not.
        with contextlib.suppress(onnx.shape_inference.InferenceError):
            proto = onnx.shape_inference.infer_shapes(proto)
    infos = [*proto.graph.input, *proto.graph.value_info, *proto.graph.output]
    typed = [(info.name, info.type.tensor_type) for info in infos]
    ranks = {name: len(t.shape.dim) for name, t in typed if t.HasField("shape")}
    held = [(name, t.elem_type) for name, t in typed]
    held += [(tensor.name, tensor.data_type) for tensor in proto.graph.initializer]
    return ranks, {name: kind for name, kind in held if kind and type_name(kind) in NARROW}


def _chosen(trainable: bool | Sequence[str]) -> Callable[[str], bool]:
    if isinstance(trainable, bool):
        return lambda name: trainable
    patterns = [trainable] if isinstance(trainable, str) else list(trainable)
    return lambda name: any(fnmatch.fnmatchcase(name, pattern) for pattern in patterns)
