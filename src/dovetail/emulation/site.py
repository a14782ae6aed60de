"""A planned operation at its place, and what all places in one model share."""

from __future__ import annotations

import zlib
from collections.abc import Callable
from dataclasses import dataclass, field
from typing import Any

import torch
from torch import Tensor, nn

from dovetail.approximations import approximation
from dovetail.emulation.planned import Plan, PlannedOp
from dovetail.emulation.swap import BUFFER_PREFIX, Emulated
from dovetail.errors import DovetailError
from dovetail.formats import IntFormat
from dovetail.sparsity import Sparsity

__all__ = ["EMULATE", "EXACT", "OBSERVE", "Emulation", "Site"]

EMULATE, EXACT, OBSERVE = "emulate", "exact", "observe"


@dataclass
class Emulation:
    """The state that all modules of one emulated model share.

    A ``performer`` computes every planned call in the place of what is planned, and is watched by
    nobody.
    """

    plan: Plan
    status: str = EMULATE
    taps: list[Callable[..., None]] = field(default_factory=list)
    observers: dict[tuple[str, str], Any] = field(default_factory=dict)
    scorers: dict[str, Any] = field(default_factory=dict)
    performer: Callable[..., Tensor] | None = None


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
        learned = op.arithmetic.grad.learned
        # Learned steps are parameters; a weight's is found of the weight, not calibrated.
        self.learned = {slot: f"{BUFFER_PREFIX}{tag}_{slot}" for slot in learned}
        self.mask, self.scores = (f"{BUFFER_PREFIX}{tag}_{name}" for name in ("mask", "scores"))
        self.transforms: tuple[str, ...] = ()  # their kinds, in the order of their use
        self.attributes: dict[str, float] = {}  # what an approximation is told besides the call's
        self._tag = tag

    def transform_buffer(self, place: int, part: str) -> str:
        """The name of the buffer that holds one tensor of the ``place``-th transform."""
        return f"{BUFFER_PREFIX}{self._tag}_transform{place}_{part}"

    def set_function(self, spelling: str) -> None:
        """The approximation that it computes by from now on."""
        self.arithmetic = self.arithmetic.with_({"fn": approximation(spelling)})
        self.spelling = self.arithmetic.spelling

    def set_sparsity(self, value: Sparsity | None) -> None:
        """What the weight keeps from now on: a schedule has it keep more on the way."""
        self.sparsity = value
        self.sparsity_text = "" if value is None else value.spelling  # traced graphs hold it

    def range(self, module: nn.Module, slot: str) -> tuple[Tensor | None, Tensor | None]:
        """Scale and zero point of a slot; (None, None) where the operand's own range is used."""
        name = self.buffers.get(slot) or self.learned.get(slot)
        if name is None:
            return None, None
        if slot in self.buffers and self.ranges == "missing":
            raise DovetailError(
                f"{self.op.key}: the range of its {slot} is not known. Calibrate it with "
                "'with dv.calibrate(model): model(batch)', or give apply_ an example; a format "
                f"such as '{_dynamic(self.op, slot)}' needs neither"
            )
        zero = module._buffers[name + "_zero"]
        if slot not in self.learned:
            return module._buffers[name + "_scale"], zero
        step = module._parameters[name + "_scale"]
        assert step is not None
        return step.float().clamp_min(_LEAST), zero  # whatever an optimiser made of it

    @property
    def ranged_channels(self) -> bool:
        """Whether some slot has a calibrated range per channel, which an example does not give."""
        formats = (getattr(self.arithmetic, slot) for slot in self.buffers)
        return any(isinstance(fmt, IntFormat) and fmt.channel is not None for fmt in formats)

    def set_range(self, module: nn.Module, slot: str, scale: Tensor, zero: Tensor) -> None:
        """Store a range in the module's buffers, in place where they exist already; a step that is
        learned as a parameter."""
        for suffix, value in (("_scale", scale), ("_zero", zero)):
            name = (self.buffers.get(slot) or self.learned[slot]) + suffix
            if name in module._buffers or name in module._parameters:
                with torch.no_grad():
                    getattr(module, name).copy_(value)
            elif suffix == "_scale" and slot in self.learned:
                self._check_holds_parameters(module)
                module.register_parameter(name, nn.Parameter(value.detach().float().clone()))
            else:
                module.register_buffer(name, value.detach().clone(), persistent=False)

    def _check_holds_parameters(self, module: nn.Module) -> None:
        if not isinstance(module, Emulated):
            raise DovetailError(
                f"{self.op.key}: grad={self.arithmetic.grad} needs a parameter that state_dict() "
                "does not show, which a traced graph or a module with a forward of its own cannot "
                "have; the nearest that works is 'ste'"
            )


_LEAST = 2.0**-100  # of a learned step


def _dynamic(op: PlannedOp, slot: str) -> str:
    text = str(getattr(op.arithmetic, slot))
    return text[:-1] + ", dynamic)" if text.endswith(")") else text + "(dynamic)"
