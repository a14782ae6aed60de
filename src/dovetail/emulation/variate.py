"""A control variate: what a multiplier errs by, predicted from the codes of the input.

    y[n] -= s_x * (slope[n] * S + level[n]),    S = sum_k term[a_k]

``a_k`` are the codes that output ``n`` is a sum over, those of padded pixels included, ``s_x``
their scale, ``term`` a table of small integers. ``S`` does not depend on ``n``: it is summed once
for all outputs of a group of channels, exactly.
"""

from __future__ import annotations

import torch
import torch.nn.functional as F
from torch import Tensor, nn

from dovetail.emulation.calls import Call
from dovetail.emulation.operand_codes import operand_codes
from dovetail.emulation.site import Site
from dovetail.emulation.transforms import tensors

__all__ = ["term_sums", "variate"]

_CONV = {1: F.conv1d, 2: F.conv2d, 3: F.conv3d}


def variate(site: Site, module: nn.Module, call: Call) -> Tensor:
    """What is subtracted from the product of a call whose operands are prepared; no gradient."""
    with torch.no_grad():
        first = operand_codes(site, module, call.plain.x.detach(), "input")
        found = torch.zeros((), dtype=torch.float64, device=first.codes.device)
        for _, kind, parts in tensors(site, module):
            if kind == "variate":
                sums = term_sums(call, first.codes, first.zeros, parts["term"])
                slope, level = (
                    parts[name].double().view(-1, *[1] * call.geometry.spatial)
                    for name in ("slope", "level")
                )
                found = found + (slope * sums + level)
        return (found * first.scale.double()).to(call.x.dtype)


def term_sums(call: Call, codes: Tensor, zero: Tensor, term: Tensor) -> Tensor:
    """``S`` of every output, in float64: ``[..., 1]``, of a convolution ``[B, O, *out]``, or ``1``
    in the place of ``O`` without groups. ``codes`` are those of ``call.plain.x``, ``zero`` is what
    padded pixels hold.

    >>> from dovetail.kernels.geometry import LINEAR
    >>> call = Call("linear", torch.ones(1, 3), torch.ones(2, 3), None, LINEAR)
    >>> odd = torch.tensor([0, 1]).repeat(8)
    >>> term_sums(call, torch.tensor([[1, 2, -3]]), torch.tensor(0), odd)
    tensor([[2.]], dtype=torch.float64)
    """
    geometry, weight = call.geometry, call.plain.weight
    # Whole numbers below 2**24, in magnitude at most 128 each, are summed exactly in float32.
    narrow = torch.float32 if 128 * call.reduction < 2**24 else torch.float64
    index = codes.to(torch.int32).bitwise_and_(len(term) - 1).flatten()
    values = term.to(narrow).index_select(0, index).view(codes.shape)
    if geometry.spatial == 0:
        return values.sum(-1, keepdim=True).double()
    # Every channel of a group is summed with the same ones: add them up first.
    planes = values.unflatten(1, (geometry.groups, -1)).sum(2).double()
    pads = [p for pair in reversed(geometry.padding) for p in pair]
    outside = term.double()[zero.long().view(1) & (len(term) - 1)] * weight.shape[1]
    planes = F.pad(planes - outside, pads) + outside  # whole numbers
    ones = planes.new_ones(geometry.groups, 1, *weight.shape[2:])
    sums: Tensor = _CONV[geometry.spatial](
        planes, ones, None, geometry.stride, 0, geometry.dilation, geometry.groups
    )
    outputs = weight.shape[0] // geometry.groups
    return sums if geometry.groups == 1 else sums.repeat_interleave(outputs, 1)
