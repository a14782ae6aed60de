"""The forward passes of an attribution on one batch: two whole ones, and one for every change.

A reference pass is exact throughout, or emulated throughout. A changed pass is the same but for one
operation, so all that comes before that is taken from the reference's tape, and all up to its next
call where its own result turns out to be the same.
"""

from __future__ import annotations

from dataclasses import dataclass, field
from typing import Any, NamedTuple

import torch
from torch import Tensor, nn
from torch.utils._pytree import tree_map

from dovetail.analysis.attribution.compared import Compared, same_bits
from dovetail.emulation.calls import Call
from dovetail.emulation.execute import emulated
from dovetail.emulation.operators import OpCall
from dovetail.emulation.partial import Partial
from dovetail.emulation.replay import Pass, Replaying, Tape, record, replay
from dovetail.emulation.site import Site
from dovetail.emulation.taps import performing

__all__ = ["Passes"]


class _Known(NamedTuple):
    """What one call of an operation gave in the reference pass, and which call of the pass that
    was."""

    place: int
    output: Tensor
    version: int

    @property
    def intact(self) -> bool:
        """Whether nothing was written to the output since."""
        return self.output._version == self.version


@dataclass
class _Reference:
    """Performs a whole pass one way, and notes what every operation gave."""

    exact: bool
    calls: dict[str, list[_Known]] = field(default_factory=dict)
    tape: Tape | None = None
    now: Pass | None = None

    def begin(self, now: Pass) -> None:
        """Another pass: what was noted of one before is forgotten."""
        self.now = now
        self.calls.clear()

    def perform(self, site: Site, module: nn.Module, call: Call | OpCall) -> Tensor:
        """The result as it is without any change."""
        return call.exact() if self.exact else emulated(site, module, call)

    def __call__(self, site: Site, module: nn.Module, call: Call | OpCall) -> Tensor:
        y = self.perform(site, module, call)
        place = 0 if self.now is None else self.now.current
        self.calls.setdefault(site.op.key, []).append(_Known(place, y, y._version))
        return y


@dataclass
class _Changed:
    """Performs one operation with other sources, everything else as the reference; ``compared`` is
    told how far its results are from exact ones."""

    reference: _Reference
    key: str
    partial: Partial
    compared: Compared | None
    replaying: Replaying | None = None
    same: bool = True
    count: int = 0

    def __call__(self, site: Site, module: nn.Module, call: Call | OpCall) -> Tensor:
        if site.op.key != self.key:
            return self.reference.perform(site, module, call)
        y = self.partial.perform(module, call)
        calls = self.reference.calls[self.key]
        known = calls[self.count] if self.count < len(calls) else None
        self.count += 1
        usable = known is not None and known.intact and self.same
        if self.compared is not None:
            self.compared.add(known.output if known and usable else call.exact(), y)
        self.same = bool(known and usable and same_bits(known.output, y))
        if self.same and known is not None and self.replaying is not None:
            self._skip(self.replaying, known, calls)
        return y

    def _skip(self, replaying: Replaying, known: _Known, calls: list[_Known]) -> None:
        """Nothing differs so far: only its next call can change anything."""
        later = [each.place for each in calls[self.count :]]
        if known.place not in later:
            assert self.reference.tape is not None
            replaying.skip_to(later[0] if later else len(self.reference.tape.calls))


class Passes:
    """The passes of ``model`` on the inputs of one batch, in eval mode and without gradients.

    Every pass draws the same random numbers.
    """

    def __init__(self, model: nn.Module, inputs: tuple[Any, ...], *, cache: bool) -> None:
        self.model, self.inputs, self.cache = model, inputs, cache
        self._state = torch.get_rng_state()
        self._references: dict[bool, _Reference] = {}

    def whole(self, *, exact: bool) -> Any:
        """The output of the exact model, or of the emulated one."""
        reference = self._references[exact] = _Reference(exact)
        with performing(self.model, reference):
            if not self.cache:
                return self._run()
            reference.tape = record(self.model, self._run, reference.begin)
        return reference.tape.output

    def operations(self) -> list[str]:
        """The operations, in the order of their first calls; after the exact pass."""
        return list(self._references[True].calls)

    def changed(
        self, key: str, change: Partial, *, exact: bool, compared: Compared | None = None
    ) -> Any:
        """The output where the operation ``key`` computes by ``change``, after :meth:`whole` of the
        same kind."""
        reference = self._references[exact]
        tape = reference.tape
        performer = _Changed(reference, key, change, compared)
        with performing(self.model, performer):
            if tape is None:
                return self._run()
            with replay(self.model, tape, reference.calls[key][0].place) as performer.replaying:
                return self._run()

    def _run(self) -> Any:
        torch.set_rng_state(self._state)
        return self.model(*tree_map(_clone, self.inputs))


def _clone(value: Any) -> Any:
    return value.clone() if isinstance(value, Tensor) else value
