"""The parameter that a product multiplies by, read and written in the form that calls have it in.

HF's ``Conv1D`` stores a linear weight transposed, a transposed convolution stores the flipped one.
"""

from __future__ import annotations

from dataclasses import dataclass

import torch
from torch import Tensor, nn

from dovetail.emulation.calls import Call, flipped
from dovetail.recovery.journal import Journal

__all__ = ["Held", "held_bias", "held_weight", "homes"]


@dataclass(frozen=True)
class Held:
    """A parameter of a module, and how a call sees it: ``plain``, ``transposed`` or ``flipped``."""

    module: nn.Module
    name: str
    layout: str = "plain"
    groups: int = 1

    @property
    def parameter(self) -> nn.Parameter:
        found = self.module._parameters[self.name]
        assert found is not None
        return found

    def read(self) -> Tensor:
        """A detached view or copy in the calls' form: ``[N, K]``, ``[O, C/groups, *kernel]``."""
        return self._turned(self.parameter.detach())

    def write(self, value: Tensor, journal: Journal) -> None:
        """Store a value of the calls' form in place."""
        journal.save(self.module, self.name)
        with torch.no_grad():
            self.parameter.copy_(self._turned(value))

    def _turned(self, value: Tensor) -> Tensor:
        if self.layout == "transposed":
            return value.mT
        return flipped(value, self.groups) if self.layout == "flipped" else value


def held_weight(module: nn.Module, call: Call) -> Held | None:
    """The module's own parameter that ``call`` multiplies by; ``None`` if it is computed, a part of
    one, an activation, or another module's."""
    weight = call.weight
    for name, parameter in module._parameters.items():
        if parameter is None or parameter.numel() != weight.numel():
            continue
        if call.kind == "conv_transpose" and parameter.dim() == weight.dim():
            turned = flipped(parameter.detach(), call.geometry.groups)
            if turned.shape == weight.shape and torch.equal(turned, weight):
                return Held(module, name, "flipped", call.geometry.groups)
        elif _is(parameter.detach(), weight):
            return Held(module, name)
        elif parameter.dim() == 2 and _is(parameter.detach().mT, weight):
            return Held(module, name, "transposed")
    return None


def held_bias(module: nn.Module, value: Tensor | None) -> Held | None:
    """The module's own parameter that is this vector."""
    if value is None:
        return None
    for name, parameter in module._parameters.items():
        if parameter is not None and _is(parameter.detach(), value):
            return Held(module, name)
    return None


def homes(model: nn.Module) -> dict[int, list[str]]:
    """For each parameter, by ``id``, every name that it goes by."""
    found: dict[int, list[str]] = {}
    for path, module in model.named_modules(remove_duplicate=False):
        for name, parameter in module._parameters.items():
            if parameter is not None:
                found.setdefault(id(parameter), []).append(f"{path}.{name}" if path else name)
    return found


def _is(parameter: Tensor, value: Tensor) -> bool:
    """Whether a value is this parameter, and not a copy or a part of it."""
    return (parameter.data_ptr(), parameter.shape, parameter.stride()) == (
        value.data_ptr(),
        value.shape,
        value.stride(),
    )
