"""One operator of a graph as a module: it is found, printed and addressed by its path."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import Any

import torch
from torch import Tensor, nn

from dovetail.compiler.onnx.registry import Operator
from dovetail.compiler.onnx.sizes import SIZES, as_tensor, is_size
from dovetail.errors import DovetailError

__all__ = ["Node"]


class Node(nn.Module):
    """Calls an operator with its attributes.

    ``inputs`` that were constants and that the operator wants as numbers are fixed here by their
    position (``static``); ``types`` are the element types of inputs whose torch type does not say
    it; bodies of control flow are sub-modules named as their attribute.
    """

    _device: Tensor

    def __init__(
        self,
        operator: Operator,
        attributes: Mapping[str, Any],
        *,
        name: str,
        outputs: int = 1,
        opset: int,
        static: Mapping[int, Any] | None = None,
        types: Mapping[int, int] | None = None,
        bodies: Mapping[str, nn.Module] | None = None,
    ) -> None:
        super().__init__()
        self.operator = operator
        tensors = {k: v for k, v in attributes.items() if isinstance(v, Tensor)}
        self.attributes = {k: v for k, v in attributes.items() if k not in tensors}
        self.constants = tuple(tensors)
        #: Sizes among them, which shapes are computed with.
        self.numbers = {
            k: int(v) for k, v in tensors.items() if v.dtype == torch.int64 and v.numel() == 1
        }
        self.name = name
        self.outputs = outputs
        self.opset = opset
        self.static = dict(static or {})
        self.types = dict(types or {})
        self.bodies = tuple(bodies or ())
        self._sizes = operator.domain == "" and operator.name in SIZES
        for attribute, value in tensors.items():  # they move with the module, and are traced
            self.register_buffer(f"constant_{attribute}", value, persistent=False)
        for attribute, body in (bodies or {}).items():
            self.add_module(attribute, body)
        if "device" in operator.parameters:  # where a tensor that comes from no input is made
            self.register_buffer("_device", torch.empty(0), persistent=False)

    def forward(self, *inputs: Any) -> Any:
        """The operator's output, or a tuple of several."""
        if self._sizes and all(is_size(x) or x is None for x in inputs) and len(inputs):
            result = SIZES[self.operator.name](*inputs, **self.attributes, **self.numbers)
            if result is not NotImplemented:
                return result
        options = dict(self.attributes)
        for name in self.bodies:
            options[name] = getattr(self, name)
        for name in self.constants:
            options[name] = getattr(self, f"constant_{name}")
        if "node" in self.operator.parameters:
            options["node"] = self
        if "device" in self.operator.parameters:
            options["device"] = self._device.device
        try:
            result = self.operator.function(*self._arguments(inputs), **options)
        except DovetailError as error:
            raise self._refusal(str(error)) from None
        if not isinstance(result, tuple):
            return result
        if len(result) < self.outputs:
            raise self._refusal(f"it gives {len(result)} outputs, the model names {self.outputs}")
        return result[: self.outputs] if self.outputs > 1 else result[0]

    def _refusal(self, why: str) -> DovetailError:
        return DovetailError(
            f"node '{self.name}' ({self.operator.name}, opset {self.opset}): {why}"
        )

    def _arguments(self, inputs: Sequence[Any]) -> list[Any]:
        """Tensors, and numbers where the operator wants them."""
        device = next((x.device for x in inputs if isinstance(x, Tensor)), None)
        arguments: list[Any] = []
        for at, value in enumerate(inputs):
            if at in self.static:
                arguments.append(self.static[at])
            elif at in self.operator.static:
                arguments.append(_numbers(value))
            elif is_size(value) and self.operator.name not in ("If", "Loop"):
                arguments.append(as_tensor(value, device))
            else:
                arguments.append(value)
        return arguments

    def extra_repr(self) -> str:
        """The operator and its attributes."""
        shown = [f"{key}={value!r}" for key, value in self.attributes.items()]
        shown += [f"input{at}={value!r}" for at, value in self.static.items()]
        return ", ".join([self.operator.name, *shown])


def _numbers(value: Any) -> Any:
    if isinstance(value, Tensor):
        return value.tolist()
    return list(value) if isinstance(value, tuple) else value
