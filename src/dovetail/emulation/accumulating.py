"""Accumulators in an emulated model: floating-point products, and what the registers hold."""

from __future__ import annotations

from typing import TYPE_CHECKING

import torch
from torch import Tensor

from dovetail.accumulators import Accumulator
from dovetail.emulation.block_products import multiplies_blocks, with_random_casts
from dovetail.emulation.calls import Call
from dovetail.emulation.casting import cast_slot
from dovetail.emulation.smooth import with_exact_gradient
from dovetail.emulation.weights import prepared
from dovetail.formats import IntFormat
from dovetail.kernels import block
from dovetail.kernels.accumulate import Totals
from dovetail.kernels.accumulate_values import accumulate_values, value_totals
from dovetail.kernels.accumulated_mac import code_totals
from dovetail.kernels.float_torch import float_totals
from dovetail.kernels.layer import code_range
from dovetail.kernels.realisation import Operands
from dovetail.multipliers import FloatMultiplier

if TYPE_CHECKING:
    from dovetail.emulation.taps import MacCall

__all__ = ["accumulated", "totals"]


def accumulated(call: Call, acc: Accumulator) -> Tensor:
    """The call with its floating-point products summed by ``acc``.

    The gradient is that of the exact product: its value is added and subtracted again.
    """
    plain = call.plain
    x, weight = _operands(plain.kind, plain.x.detach(), plain.weight.detach())
    bias = None if call.bias is None else call.bias.detach()
    value = accumulate_values(x, weight, bias, plain.geometry, acc)
    if call.x.dim() == 1:
        value = value.squeeze(0)
    return with_exact_gradient(value, call)


def _operands(kind: str, x: Tensor, weight: Tensor) -> tuple[Tensor, Tensor]:
    """``x [..., M, K]`` and ``weight [..., K, N]``, or a convolution's operands as they are."""
    if kind in ("linear", "matmul"):
        return torch.atleast_2d(x), weight.mT if kind == "linear" else weight
    return x, weight


def totals(call: MacCall, acc: Accumulator) -> Totals:
    """The registers of one product as it was called, formed once more with overflows counted."""
    arithmetic, kind = call.site.arithmetic, call.call.kind
    first, second = arithmetic.input, arithmetic.weight
    if isinstance(first, IntFormat) and isinstance(second, IntFormat):
        a, w, zero = call.codes()
        operands = Operands(code_range(first), code_range(second), a.device.type)
        w = w.mT if kind == "matmul" else w
        return code_totals(a, w, arithmetic.code_multiplier, operands, acc, call.geometry, zero)
    ready = prepared(call.site, call.module, call.call)
    in_blocks = multiplies_blocks(arithmetic, ready)
    if in_blocks:
        ready = with_random_casts(call.site, call.module, ready)
    x, weight = ready.plain.x.detach(), ready.weight.detach()
    if in_blocks:
        if kind == "matmul":
            return block.matmul_totals(x, weight, first, second, acc)
        return block.totals(x, weight, first, second, call.geometry, acc)
    if first is not None:
        x = cast_slot(x, first, "input", call.site, call.module)
    if second is not None:
        weight = cast_slot(weight, second, "weight", call.site, call.module)
    x, weight = _operands(kind, x, weight)
    if isinstance(arithmetic.mul, FloatMultiplier):
        return float_totals(x, weight, call.geometry, arithmetic.mul, acc, counting=True)
    return value_totals(x, weight, call.geometry, acc, counting=True)
