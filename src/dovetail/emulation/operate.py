"""What a planned operator does: cast its operands, compute exactly or not, cast its result."""

from __future__ import annotations

from dataclasses import replace

import torch
from torch import Tensor, nn

from dovetail.emulation.approximated import approximated
from dovetail.emulation.casting import cast_slot
from dovetail.emulation.hidden import hidden
from dovetail.emulation.operators import OpCall, slot_of
from dovetail.emulation.site import Site
from dovetail.emulation.sparsifying import sparse_weight
from dovetail.emulation.transforms import prepared_norm
from dovetail.formats import Format

__all__ = ["cast_operands", "operate"]


def operate(site: Site, module: nn.Module, call: OpCall) -> Tensor:
    """The result of one emulated operator, in normal form."""
    arithmetic = site.arithmetic
    cast = cast_operands(site, module, call)
    y = cast.exact() if arithmetic.fn is None else approximated(cast, arithmetic.fn)
    if arithmetic.output is not None:
        y = _cast(y, arithmetic.output, "output", site, module)
    return y


def cast_operands(site: Site, module: nn.Module, call: OpCall) -> OpCall:
    """The call on its operands as the site's formats make them."""
    call = prepared_norm(site, module, call) if site.transforms else call
    operands = {}
    for name, value in call.operands.items():
        slot = slot_of(name)
        fmt = getattr(site.arithmetic, slot)
        if slot == "weight":
            value = sparse_weight(site, module, value)
        operands[name] = value if fmt is None else _cast(value, fmt, slot, site, module)
    call = call.with_operands(operands)
    if site.attributes:
        call = replace(call, attributes={**call.attributes, **site.attributes})
    return call


def _cast(x: Tensor, fmt: Format, slot: str, site: Site, module: nn.Module) -> Tensor:
    """The cast, which a mask's numbers pass unseen."""
    far = hidden(site.op.kind, x)
    if far is None:
        return cast_slot(x, fmt, slot, site, module)
    return torch.where(far, x, cast_slot(x.masked_fill(far, 0.0), fmt, slot, site, module))
