"""A product's operands before they are cast to multiply, and a module's own in their form."""

from __future__ import annotations

from typing import cast

from torch import Tensor, nn

from dovetail.emulation.calls import Call, flipped
from dovetail.emulation.casting import cast_slot
from dovetail.emulation.site import Site
from dovetail.emulation.sparsifying import sparse_weight
from dovetail.emulation.transforms import transformed

__all__ = ["as_multiplied", "changing", "prepared", "uncast"]


def as_multiplied(kind: str, module: nn.Module, weight: Tensor) -> Tensor:
    """The weight of a module that is one operation, outputs first; applied again, as it was.

    Only a transposed convolution holds it otherwise: its formats and masks run along the axes of
    the plain convolution that it is.

    >>> import torch
    >>> layer = nn.ConvTranspose1d(4, 6, 3, groups=2)
    >>> turned = as_multiplied("conv_transpose", layer, layer.weight)
    >>> turned.shape, torch.equal(as_multiplied("conv_transpose", layer, turned), layer.weight)
    (torch.Size([6, 2, 3]), True)
    """
    return flipped(weight, cast(int, module.groups)) if kind == "conv_transpose" else weight


def changing(site: Site, slot: str) -> str | None:
    """What changes a weight or bias at every call, so that no tensor holds what is multiplied."""
    weights = ("smooth", "smooth_dynamic", "rotation", "clip", "weight")
    kinds = ("shift",) if slot == "bias" else weights
    return next((kind for kind in site.transforms if kind in kinds), None)


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
