"""A product's weight as it is before it is cast to multiply."""

from __future__ import annotations

from torch import nn

from dovetail.emulation.calls import Call
from dovetail.emulation.casting import cast_slot
from dovetail.emulation.site import Site
from dovetail.emulation.sparsifying import sparse_weight

__all__ = ["with_stored_weight"]


def with_stored_weight(site: Site, module: nn.Module, call: Call) -> Call:
    """The call with its weight sparse, and rounded to what it is stored in."""
    weight = sparse_weight(site, module, call.weight)
    if site.arithmetic.weight_storage is not None:
        weight = cast_slot(weight, site.arithmetic.weight_storage, "weight_storage", site, module)
    return call if weight is call.weight else call.with_operands(call.x, weight, call.bias)
