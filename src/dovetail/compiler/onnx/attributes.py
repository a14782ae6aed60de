"""Attributes of a node as Python has them."""

from __future__ import annotations

from typing import Any

from dovetail._optional import optional
from dovetail.compiler.onnx.types import from_array
from dovetail.errors import DovetailError

__all__ = ["attributes_of", "graphs_of", "tensor_of"]

#: Of opset 1, without a meaning since.
_LEGACY = frozenset({"consumed_inputs"})


def attributes_of(node: Any) -> dict[str, Any]:
    """Numbers, texts, lists and tensors by name; graphs are `graphs_of`'s.

    >>> import onnx
    >>> attributes_of(onnx.helper.make_node("Conv", ["x", "w"], ["y"], strides=[2, 2]))
    {'strides': [2, 2]}
    """
    kinds = optional("onnx", extra="onnx").AttributeProto
    found: dict[str, Any] = {}
    for attribute in node.attribute:
        if attribute.name in _LEGACY or attribute.type in (kinds.GRAPH, kinds.GRAPHS):
            continue
        found[attribute.name] = _value(attribute, kinds)
    return found


def graphs_of(node: Any) -> dict[str, Any]:
    """The sub-graphs of a node by attribute."""
    kind = optional("onnx", extra="onnx").AttributeProto.GRAPH
    return {a.name: a.g for a in node.attribute if a.type == kind}


def tensor_of(proto: Any) -> Any:
    """A ``TensorProto`` as a tensor; text and data that were not loaded are refused."""
    onnx = optional("onnx", extra="onnx")
    if proto.data_type == onnx.TensorProto.STRING:
        raise DovetailError(f"tensor '{proto.name}' holds text: a torch module has none")
    if proto.data_location == onnx.TensorProto.EXTERNAL and not proto.raw_data:
        raise DovetailError(
            f"the data of '{proto.name}' is in another file: give the model's path, or load it "
            "with onnx.load, which reads both"
        )
    return from_array(onnx.numpy_helper.to_array(proto), proto.data_type)


def _value(attribute: Any, kinds: Any) -> Any:
    onnx = optional("onnx", extra="onnx")
    value = onnx.helper.get_attribute_value(attribute)
    if attribute.type == kinds.STRING:
        return value.decode()
    if attribute.type == kinds.STRINGS:
        return [item.decode() for item in value]
    if attribute.type == kinds.TENSOR:
        return tensor_of(value)
    if attribute.type in (kinds.INTS, kinds.FLOATS):
        return list(value)
    if attribute.type in (kinds.INT, kinds.FLOAT):
        return value
    if attribute.type == kinds.TYPE_PROTO:
        return value.WhichOneof("value")
    kind = kinds.AttributeType.Name(attribute.type)
    raise DovetailError(f"attribute '{attribute.name}' is a {kind}: it has no torch counterpart")
