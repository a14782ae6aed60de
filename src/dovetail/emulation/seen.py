"""What an example run finds: which operations a model calls, where, on what shapes and ranges."""

from __future__ import annotations

from collections import Counter
from collections.abc import Callable
from dataclasses import dataclass, field

import torch
from torch import Tensor, nn

from dovetail.emulation.calls import Call
from dovetail.emulation.hidden import visible
from dovetail.emulation.operators import OpCall, slot_of
from dovetail.emulation.scoring import weight_of
from dovetail.kernels.geometry import LINEAR, Geometry
from dovetail.kinds import KINDS
from dovetail.recipe import OpAddress

__all__ = ["Place", "Seen", "Trace", "Watch"]


@dataclass
class Seen:
    """One operation as the example called it (``calls`` times); ``weight`` is what it multiplies
    by, if that can be sparse."""

    address: OpAddress
    module: nn.Module
    shapes: dict[str, tuple[int, ...]] = field(default_factory=dict)
    macs: int = 0
    reduction: int = 0
    calls: int = 0
    ranges: dict[str, tuple[Tensor, Tensor]] = field(default_factory=dict)
    weight: Tensor | None = None
    geometry: Geometry = LINEAR
    elements: Counter[str] = field(default_factory=Counter)
    dtype: torch.dtype | None = None

    def add(self, call: Call | OpCall, y: Tensor) -> None:
        values = {**call.operands, "output": y}
        self.shapes = {slot: tuple(value.shape) for slot, value in values.items()}
        self.calls += 1
        for name, value in values.items():
            self.elements[slot_of(name)] += value.numel()
        self.dtype = y.dtype
        if KINDS[call.kind].takes("sparsity"):
            self.weight = weight_of(call).detach()
        if isinstance(call, Call):
            self.geometry = call.geometry
            self.reduction = call.reduction
            self.macs += y.numel() * call.reduction
        for name, value in values.items():
            slot = slot_of(name)
            if slot in KINDS[call.kind].activations and value.numel():
                low, high = torch.aminmax(visible(call.kind, value.detach()).float())
                before = self.ranges.get(slot, (low, high))
                self.ranges[slot] = (torch.minimum(before[0], low), torch.maximum(before[1], high))


#: Where an operation was called: the module's path, the kind, and how often before in that call.
Place = tuple[str, str, int]
#: Is shown every operation as it is called.
Watch = Callable[[Place, "Call | OpCall", Tensor], None]


@dataclass
class Trace:
    """Everything the example called. ``uncovered`` maps ``path:op`` to the op's name."""

    seen: dict[Place, Seen] = field(default_factory=dict)
    uncovered: dict[str, str] = field(default_factory=dict)
    has_example: bool = False
