"""What a planned operator does: cast its operands, compute exactly or not, cast its result."""

from __future__ import annotations

from torch import Tensor, nn

from dovetail.emulation.approximated import approximated
from dovetail.emulation.casting import cast_slot
from dovetail.emulation.operators import OpCall, slot_of
from dovetail.emulation.site import Site
from dovetail.emulation.sparsifying import sparse_weight

__all__ = ["operate"]


def operate(site: Site, module: nn.Module, call: OpCall) -> Tensor:
    """The result of one emulated operator, in normal form."""
    arithmetic = site.arithmetic
    operands = {}
    for name, value in call.operands.items():
        slot = slot_of(name)
        fmt = getattr(arithmetic, slot)
        if slot == "weight":
            value = sparse_weight(site, module, value)
        operands[name] = value if fmt is None else cast_slot(value, fmt, slot, site, module)
    cast = call.with_operands(operands)
    y = cast.exact() if arithmetic.fn is None else approximated(cast, arithmetic.fn)
    if arithmetic.output is not None:
        y = cast_slot(y, arithmetic.output, "output", site, module)
    return y
