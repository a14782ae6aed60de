"""A call as JSON text: what a node keeps, a saved SDFG holds and a viewer shows."""

from __future__ import annotations

import json
from typing import Any

import torch

from dovetail.compiler.engine import load_dace
from dovetail.compiler.nodes.base import Call, Operand, is_symbolic
from dovetail.errors import DovetailError

__all__ = ["read_call", "read_value", "write_call", "write_value"]

_TORCH_NAMES = (torch.dtype, torch.memory_format, torch.layout)


def write_call(call: Call) -> str:
    """``call`` as JSON.

    >>> x = Operand("x", (2,), (1,), 0, torch.float32)
    >>> call = Call("aten.relu.default", (x, None), (x,), {"dtype": torch.float16})
    >>> back = read_call(write_call(call))
    >>> (back.inputs, back.attributes) == (call.inputs, call.attributes)
    True
    """
    return json.dumps(
        {
            "key": call.key,
            "inputs": [_operand(o) for o in call.inputs],
            "outputs": [_operand(o) for o in call.outputs],
            "attributes": {name: write_value(v) for name, v in call.attributes.items()},
            "target": call.target,
        }
    )


def read_call(text: str) -> Call:
    """The call that ``write_call`` wrote."""
    read = json.loads(text)
    return Call(
        read["key"],
        tuple(_read_operand(o) for o in read["inputs"]),
        tuple(_read_operand(o) for o in read["outputs"]),
        {name: read_value(v) for name, v in read["attributes"].items()},
        read["target"],
    )


def _operand(operand: Operand | None) -> Any:
    if operand is None:
        return None
    numbers = [list(operand.shape), list(operand.strides), operand.offset]
    return [operand.data, *map(write_value, numbers), write_value(operand.dtype)]


def _read_operand(read: Any) -> Operand | None:
    if read is None:
        return None
    data, *rest = read
    shape, strides, offset, dtype = map(read_value, rest)
    return Operand(data, tuple(shape), tuple(strides), offset, dtype)


def write_value(value: Any) -> Any:
    """A constant as JSON has it: numbers, texts, lists, and torch's names."""
    if value is None or isinstance(value, (bool, int, str)):
        return value
    if isinstance(value, float):  # JSON has no infinity, and no NaN
        return {"float": value.hex()}
    if isinstance(value, (list, tuple)):
        return [write_value(v) for v in value]
    if isinstance(value, _TORCH_NAMES):
        return {"torch": str(value).removeprefix("torch.")}
    if isinstance(value, torch.device):
        return {"device": str(value)}
    if is_symbolic(value):
        return int(value) if value.is_Integer else {"symbolic": str(value)}
    raise DovetailError(f"a node cannot hold {value!r}, a {type(value).__name__}")


def read_value(plain: Any) -> Any:
    """The constant that ``write_value`` wrote."""
    if isinstance(plain, list):
        return [read_value(v) for v in plain]
    if not isinstance(plain, dict):
        return plain
    ((kind, text),) = plain.items()
    if kind == "float":
        return float.fromhex(text)
    if kind == "torch":
        return getattr(torch, text)
    if kind == "device":
        return torch.device(text)
    return load_dace().symbolic.pystr_to_symbolic(text)
