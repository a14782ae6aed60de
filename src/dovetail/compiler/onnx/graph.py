"""A graph as a module: it calls its nodes in order, each with the values it names."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any

import torch
from torch import Tensor, nn

from dovetail.compiler.onnx.sizes import as_tensor, is_size
from dovetail.errors import DovetailError

__all__ = ["OnnxGraph", "Step"]


@dataclass(frozen=True)
class Step:
    """One call: where its module is, the names of its values, and those not needed afterwards."""

    path: tuple[str, ...]
    inputs: tuple[str, ...]
    outputs: tuple[str, ...]
    dead: tuple[str, ...] = ()


class OnnxGraph(nn.Module):
    """An ONNX graph of plain torch calls, as `load_onnx` returns it.

    Called with the graph's inputs in their order, or by name; gives its output, or a tuple of
    several. ``input_names`` and ``output_names`` are those of the graph. Parameters and buffers
    are named as its initialisers, sub-modules as its nodes; a layer whose weight is called
    ``a.b.weight`` is ``a.b``.
    """

    _device: Tensor

    def __init__(self, inputs: Sequence[str], outputs: Sequence[str], captured: Sequence[str]):
        super().__init__()
        self.input_names = tuple(inputs)
        self.output_names = tuple(outputs)
        #: Values of the graph around this one, which the caller gives after the inputs.
        self.captured = tuple(captured)
        self.steps: tuple[Step, ...] = ()
        #: Tensors of this module by the name of the value, and constants that are numbers.
        self.tensors: dict[str, tuple[str, ...]] = {}
        self.numbers: dict[str, Any] = {}
        self.register_buffer("_device", torch.empty(0), persistent=False)

    def forward(self, *inputs: Any, **named: Any) -> Any:
        """Run the graph."""
        result = self.run(self._bound(inputs, named))
        tensors = [as_tensor(v, self._device.device) if is_size(v) else v for v in result]
        return tensors[0] if len(tensors) == 1 else tuple(tensors)

    def run(self, values: dict[str, Any]) -> list[Any]:
        """The outputs, from the inputs and captured values by name: sizes stay numbers."""
        values = dict(values)
        values[""] = None
        for name, path in self.tensors.items():
            values[name] = _at(self, path)
        for name, number in self.numbers.items():
            values[name] = number
        for step in self.steps:
            result = _at(self, step.path)(*[values[name] for name in step.inputs])
            if len(step.outputs) == 1:
                values[step.outputs[0]] = result
            else:
                for name, value in zip(step.outputs, result, strict=True):
                    values[name] = value
            values[""] = None
            for name in step.dead:
                del values[name]
        return [values[name] for name in self.output_names]

    def _bound(self, inputs: Sequence[Any], named: dict[str, Any]) -> dict[str, Any]:
        names = self.input_names + self.captured
        if len(inputs) > len(names):
            raise DovetailError(f"the graph takes {_listed(names)}, it was given {len(inputs)}")
        values = dict(zip(names, inputs, strict=False))
        for name, value in named.items():
            if name not in names:
                raise DovetailError(f"the graph has no input '{name}': it takes {_listed(names)}")
            values[name] = value
        missing = [name for name in names if name not in values]
        if missing:
            raise DovetailError(f"the graph takes {_listed(names)}: without {_listed(missing)}")
        return values


def _listed(names: Sequence[str]) -> str:
    return f"{len(names)} inputs ({', '.join(names)})" if len(names) != 1 else f"'{names[0]}'"


def _at(module: nn.Module, path: tuple[str, ...]) -> Any:
    found: Any = module
    for name in path:
        found = getattr(found, name)
    return found
