"""Calls whose operands a floating-point multiplier multiplies."""

from __future__ import annotations

import torch

from dovetail.accumulators import Accumulator
from dovetail.emulation.calls import Call
from dovetail.emulation.smooth import with_exact_gradient
from dovetail.kernels import float_library
from dovetail.multipliers import FloatMultiplier

__all__ = ["product_of_floats"]


def product_of_floats(call: Call, mul: FloatMultiplier, acc: Accumulator | None) -> torch.Tensor:
    """The call, whose operands are cast already, with ``mul``'s products summed by ``acc``.

    The gradient is that of the exact product.
    """
    plain = call.plain
    # What is packed of a weight is kept with it: the same tensor, where nothing records.
    weight = plain.weight.detach() if plain.weight.requires_grad else plain.weight
    words = (repr(mul), "" if acc is None else acc.spelling)
    if plain.kind == "matmul":
        value = float_library.float_matmul(plain.x.detach(), weight, *words)
    else:
        g = plain.geometry
        padding = [p for pair in g.padding for p in pair]
        window = (list(g.stride), padding, list(g.dilation), g.groups)
        bias = None if plain.bias is None else plain.bias.detach()
        value = float_library.float_mac(plain.x.detach(), weight, bias, *window, *words)
    dtype = torch.promote_types(call.x.dtype, call.weight.dtype)
    return with_exact_gradient(value.to(dtype), call)
