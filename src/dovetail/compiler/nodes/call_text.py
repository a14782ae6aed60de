"""A call as JSON text: what a node keeps, a saved SDFG holds and a viewer shows."""

from __future__ import annotations

import json
from typing import Any

import torch

from dovetail.compiler.engine import load_dace
from dovetail.compiler.nodes.base import Call, Operand, is_symbolic
from dovetail.errors import DovetailError

__all__ = ["read_call", "write_call"]

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
            "attributes": {name: _plain(v) for name, v in call.attributes.items()},
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
        {name: _value(v) for name, v in read["attributes"].items()},
        read["target"],
    )


def _operand(operand: Operand | None) -> Any:
    if operand is None:
        return None
    numbers = [list(operand.shape), list(operand.strides), operand.offset]
    return [operand.data, *map(_plain, numbers), _plain(operand.dtype)]


def _read_operand(read: Any) -> Operand | None:
    if read is None:
        return None
    data, *rest = read
    shape, strides, offset, dtype = map(_value, rest)
    return Operand(data, tuple(shape), tuple(strides), offset, dtype)


def _plain(value: Any) -> Any:
    if value is None or isinstance(value, (bool, int, str)):
        return value
    if isinstance(value, float):  # JSON has no infinity, and no NaN
        return {"float": value.hex()}
    if isinstance(value, (list, tuple)):
        return [_plain(v) for v in value]
    if isinstance(value, _TORCH_NAMES):
        return {"torch": str(value).removeprefix("torch.")}
    if isinstance(value, torch.device):
        return {"device": str(value)}
    if is_symbolic(value):
        return int(value) if value.is_Integer else {"symbolic": str(value)}
    raise DovetailError(f"a node cannot hold {value!r}, a {type(value).__name__}")


def _value(plain: Any) -> Any:
    if isinstance(plain, list):
        return [_value(v) for v in plain]
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
