"""Watching an emulated model at work: every planned call, with the means to recompute it."""

from __future__ import annotations

from collections.abc import Callable, Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any

from torch import Tensor, nn

from dovetail.emulation.calls import Call
from dovetail.emulation.casting import cast_slot
from dovetail.emulation.mode import ENTRY
from dovetail.emulation.operand_codes import OperandCodes, operand_codes
from dovetail.emulation.operators import OpCall
from dovetail.emulation.site import EMULATE
from dovetail.emulation.weights import prepared
from dovetail.errors import DovetailError
from dovetail.kernels.geometry import Geometry

if TYPE_CHECKING:
    from dovetail.emulation.planned import PlannedOp
    from dovetail.emulation.site import Emulation, Site

__all__ = ["MacCall", "Watched", "apart", "emulation_of", "exact", "performing", "tap", "watched"]


@dataclass(frozen=True)
class Watched:
    """One planned call of any kind: the floating-point operands it saw and the output it gave.

    ``raw`` is the output before it was cast; None where the operation ran as torch has it.
    """

    site: Site
    module: nn.Module
    call: Call | OpCall
    output: Tensor
    raw: Tensor | None = None

    @property
    def operands(self) -> dict[str, Tensor]:
        """The tensors that it was called with, by slot."""
        return {slot: t.detach() for slot, t in self.call.operands.items()}

    def exact(self) -> Tensor:
        """The output of the same operation on the same inputs, without emulation."""
        call = self.call if isinstance(self.call, Call) else self.call.without_effects()
        return call.exact().detach()


@dataclass(frozen=True)
class MacCall(Watched):
    """One planned product."""

    call: Call

    @property
    def x(self) -> Tensor:
        """A transposed convolution's input is given with the zeros inserted: the operand of the
        plain convolution that ``geometry`` and ``weight`` describe."""
        return self.call.plain.x.detach()

    @property
    def weight(self) -> Tensor:
        return self.call.weight.detach()

    @property
    def bias(self) -> Tensor | None:
        return None if self.call.bias is None else self.call.bias.detach()

    @property
    def geometry(self) -> Geometry:
        return self.call.geometry

    def codes(self) -> tuple[Tensor, Tensor, int]:
        """Integer codes of the input and of the weight, and the code that padded pixels hold.

        For ``matmul`` the second operand's codes are ``[..., K, N]``. Stochastic rounding draws
        anew, from torch's global generator as it stands.
        """
        first, second = self.coded()
        return first.codes, second.codes, first.zero

    def coded(self) -> tuple[OperandCodes, OperandCodes]:
        """Both operands as codes, with their scales and zero points; see :meth:`codes`."""
        arithmetic = self.site.arithmetic
        if not arithmetic.multiplies_codes:
            raise DovetailError(f"{self.site.op.key} multiplies no integer codes")
        call = prepared(self.site, self.module, self.call)
        slot = "second" if self.call.kind == "matmul" else "weight"
        first = operand_codes(self.site, self.module, call.plain.x.detach(), "input")
        second = operand_codes(self.site, self.module, call.weight.detach(), slot)
        return first, second

    @property
    def added(self) -> Tensor | None:
        """The bias as it is added: cast, where the arithmetic says so."""
        bias = prepared(self.site, self.module, self.call).bias
        if bias is None or self.site.arithmetic.bias is None:
            return None if bias is None else bias.detach()
        return cast_slot(bias, self.site.arithmetic.bias, "bias", self.site, self.module).detach()


def watched(
    site: Site, module: nn.Module, call: Call | OpCall, output: Tensor, raw: Tensor | None
) -> Watched:
    """What a tap is shown of one call."""
    kind = MacCall if isinstance(call, Call) else Watched
    return kind(site, module, call, output, raw)  # type: ignore[arg-type]


def emulation_of(model: nn.Module) -> Emulation:
    """The state shared by the emulated modules of ``model``."""
    if not isinstance(model, nn.Module):
        raise DovetailError(f"a model is an nn.Module, not {model!r:.60}")
    for module in model.modules():
        entry = module.__dict__.get(ENTRY)
        if entry is not None:
            found: Emulation = entry.emulation
            return found
    raise DovetailError("this model is not emulated: call dv.apply_(model, recipe, example) first")


@contextmanager
def tap(model: nn.Module, watch: Callable[[PlannedOp, Any], None]) -> Iterator[None]:
    """Within, ``watch(op, call)`` is called after every planned operation of an emulated model.

    ``call`` is a :class:`MacCall` for a product, a :class:`Watched` for every other operator.
    """
    taps = emulation_of(model).taps
    taps.append(watch)
    try:
        yield
    finally:
        taps.remove(watch)


@contextmanager
def exact(model: nn.Module) -> Iterator[None]:
    """Within, every planned operation runs as torch has it; taps still see it."""
    emulation = emulation_of(model)
    before = emulation.status
    emulation.status = "exact"
    try:
        yield
    finally:
        emulation.status = before


@contextmanager
def performing(model: nn.Module, performer: Callable[..., Tensor]) -> Iterator[None]:
    """Within, ``performer(site, module, call)`` computes every planned call, in normal form."""
    emulation = emulation_of(model)
    before = emulation.performer
    emulation.performer = performer
    try:
        yield
    finally:
        emulation.performer = before


@contextmanager
def apart(model: nn.Module) -> Iterator[None]:
    """Within, an emulated model emulates, and those who watched it before see nothing."""
    emulation = emulation_of(model)
    before = emulation.status, emulation.taps
    emulation.status, emulation.taps = EMULATE, []
    try:
        yield
    finally:
        emulation.status, emulation.taps = before
