"""What a planned operator does: cast its operands, compute exactly or not."""

from __future__ import annotations

from dataclasses import replace

from torch import Tensor, nn

from dovetail.emulation.approximated import approximated
from dovetail.emulation.casting import cast_slot
from dovetail.emulation.operators import OpCall, slot_of
from dovetail.emulation.site import Site
from dovetail.emulation.sparsifying import sparse_weight
from dovetail.emulation.transforms import prepared_norm

__all__ = ["cast_operands", "operate"]


def operate(site: Site, module: nn.Module, call: OpCall) -> Tensor:
    """The result of one emulated operator, in normal form, before it is cast."""
    cast, fn = cast_operands(site, module, call), site.arithmetic.fn
    return cast.exact() if fn is None else approximated(cast, fn)


def cast_operands(site: Site, module: nn.Module, call: OpCall) -> OpCall:
    """The call on its operands as the site's formats make them."""
    call = prepared_norm(site, module, call) if site.transforms else call
    operands = {}
    for name, value in call.operands.items():
        slot = slot_of(name)
        fmt = getattr(site.arithmetic, slot)
        if slot == "weight":
            value = sparse_weight(site, module, value)
        operands[name] = value if fmt is None else cast_slot(value, fmt, slot, site, module)
    call = call.with_operands(operands)
    if site.attributes:
        call = replace(call, attributes={**call.attributes, **site.attributes})
    return call
