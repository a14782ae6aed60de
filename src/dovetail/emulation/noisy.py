"""Noise in the multiplier's place: what ``grad="noise"`` trains on."""

from __future__ import annotations

import math

from torch import Tensor, nn

from dovetail.emulation.calls import Call
from dovetail.emulation.derivative import cast_operands
from dovetail.emulation.site import Site
from dovetail.formats import IntFormat
from dovetail.formats.philox import random_normals, seed_from
from dovetail.kernels.ranges import operand_range

__all__ = ["product_with_noise"]


def product_with_noise(site: Site, module: nn.Module, call: Call) -> Tensor:
    """``sum_k xq wq + s_x s_w e``, where ``e`` is normal and drawn anew for each sum.

    ``e`` has the mean and the variance that the errors of ``K`` products have in sum, for operands
    drawn uniformly and independently (:meth:`dovetail.Multiplier.errors`). The numbers are counter
    based; their key is drawn from torch's generator, so ``torch.manual_seed`` repeats them and
    checkpointing does. The gradient is that of the exact product; the noise has none.
    """
    y = call.with_operands(*cast_operands(site, module, call), call.bias).exact()
    error = site.arithmetic.code_multiplier.errors().summed(call.reduction)
    if not error.mean and not error.variance:
        return y
    noise = random_normals(y.shape, seed_from(None, y.device))
    sums = noise * math.sqrt(float(error.variance)) + float(error.mean)
    return y + (sums * _unit(site, module, call)).to(y.dtype)


def _unit(site: Site, module: nn.Module, call: Call) -> Tensor:
    """What one unit of each output's sum stands for, to broadcast over the result."""
    scales: list[Tensor] = []
    second = "second" if call.kind == "matmul" else "weight"
    for slot, role, x in (("input", "input", call.x), ("weight", second, call.weight)):
        fmt = getattr(site.arithmetic, slot)
        assert isinstance(fmt, IntFormat)
        scale, zero = site.range(module, slot)
        given = None if scale is None or zero is None else (scale, zero)
        scales.append(operand_range(x.detach(), fmt, role, given)[0].detach())
    x_scale, w_scale = scales
    if w_scale.dim():
        w_scale = w_scale.view(-1, *[1] * call.geometry.spatial)
    return x_scale * w_scale
