"""A product's operands as they are before they are cast to multiply."""

from __future__ import annotations

from torch import nn

from dovetail.emulation.calls import Call
from dovetail.emulation.casting import cast_slot
from dovetail.emulation.site import Site
from dovetail.emulation.sparsifying import sparse_weight
from dovetail.emulation.transforms import transformed

__all__ = ["prepared", "uncast"]


def uncast(site: Site, module: nn.Module, call: Call) -> Call:
    """The call with its weight sparse, and what the site's transforms make of its operands."""
    weight = sparse_weight(site, module, call.weight)
    if weight is not call.weight:
        call = call.with_operands(call.x, weight, call.bias)
    return transformed(site, module, call) if site.transforms else call


def prepared(site: Site, module: nn.Module, call: Call) -> Call:
    """The same, with the weight rounded to what it is stored in."""
    call = uncast(site, module, call)
    if site.arithmetic.weight_storage is None:
        return call
    weight = cast_slot(call.weight, site.arithmetic.weight_storage, "weight_storage", site, module)
    return call.with_operands(call.x, weight, call.bias)
