"""A planned operation at its place, and what all places in one model share."""

from __future__ import annotations

import zlib
from collections.abc import Callable
from dataclasses import dataclass, field
from typing import Any

from torch import Tensor, nn

from dovetail.emulation.planned import Plan, PlannedOp
from dovetail.emulation.swap import BUFFER_PREFIX
from dovetail.errors import DovetailError
from dovetail.sparsity import Sparsity

__all__ = ["EMULATE", "EXACT", "OBSERVE", "Emulation", "Site"]

EMULATE, EXACT, OBSERVE = "emulate", "exact", "observe"


@dataclass
class Emulation:
    """The state that all modules of one emulated model share."""

    plan: Plan
    status: str = EMULATE
    taps: list[Callable[..., None]] = field(default_factory=list)
    observers: dict[tuple[str, str], Any] = field(default_factory=dict)
    scorers: dict[str, Any] = field(default_factory=dict)


class Site:
    """A planned operation at its place: its arithmetic as text, and the buffers of its ranges."""

    def __init__(self, op: PlannedOp) -> None:
        self.op = op
        self.arithmetic = op.arithmetic
        self.spelling = op.arithmetic.spelling
        nearest = op.arithmetic.with_nearest_codes()
        #: What an op is told of operands that are drawn before it; None if none are.
        self.drawn = None if nearest is None else (nearest, nearest.spelling)
        self.ranges = "missing" if op.ranged_slots else "none needed"
        self.set_sparsity(op.arithmetic.sparsity)
        self.stream = zlib.crc32(op.key.encode())  # of random numbers, one for each operation
        tag = op.kind + ("" if op.index is None else str(op.index))
        self.buffers = {slot: f"{BUFFER_PREFIX}{tag}_{slot}" for slot in op.ranged_slots}
        self.mask, self.scores = (f"{BUFFER_PREFIX}{tag}_{name}" for name in ("mask", "scores"))
        self.transforms: tuple[str, ...] = ()  # their kinds, in the order of their use
        self.attributes: dict[str, float] = {}  # what an approximation is told besides the call's
        self._tag = tag

    def transform_buffer(self, place: int, part: str) -> str:
        """The name of the buffer that holds one tensor of the ``place``-th transform."""
        return f"{BUFFER_PREFIX}{self._tag}_transform{place}_{part}"

    def set_sparsity(self, value: Sparsity | None) -> None:
        """What the weight keeps from now on: a schedule has it keep more on the way."""
        self.sparsity = value
        self.sparsity_text = "" if value is None else value.spelling  # traced graphs hold it

    def range(self, module: nn.Module, slot: str) -> tuple[Tensor | None, Tensor | None]:
        """Scale and zero point of a slot; (None, None) where the operand's own range is used."""
        name = self.buffers.get(slot)
        if name is None:
            return None, None
        if self.ranges == "missing":
            raise DovetailError(
                f"{self.op.key}: the range of its {slot} is not known. Calibrate it with "
                "'with dv.calibrate(model): model(batch)', or give apply_ an example; a format "
                f"such as '{_dynamic(self.op, slot)}' needs neither"
            )
        return module._buffers[name + "_scale"], module._buffers[name + "_zero"]

    def set_range(self, module: nn.Module, slot: str, scale: Tensor, zero: Tensor) -> None:
        """Store a range in the module's buffers, in place where they exist already."""
        for suffix, value in (("_scale", scale), ("_zero", zero)):
            name = self.buffers[slot] + suffix
            if name in module._buffers:
                getattr(module, name).copy_(value)
            else:
                module.register_buffer(name, value.detach().clone(), persistent=False)


def _dynamic(op: PlannedOp, slot: str) -> str:
    text = str(getattr(op.arithmetic, slot))
    return text[:-1] + ", dynamic)" if text.endswith(")") else text + "(dynamic)"
