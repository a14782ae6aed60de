"""Calls whose operands are block formats: multiplied block by block, as hardware does."""

from __future__ import annotations

from typing import cast

from torch import Tensor

from dovetail.arithmetic import EXACT, Arithmetic
from dovetail.emulation.calls import Call
from dovetail.kernels import block_library
from dovetail.kernels.block_codes import qualifies
from dovetail.kernels.library import conv_window

__all__ = ["multiplies_blocks", "product_of_blocks"]


def multiplies_blocks(arithmetic: Arithmetic, call: Call) -> bool:
    """Whether products are formed of integers per block, of which the accumulator (float32 without
    one) takes the sums: see :func:`dovetail.kernels.block_codes.qualifies`."""
    if arithmetic.mul != EXACT.mul:
        return False
    return qualifies(arithmetic.input, arithmetic.weight, call.geometry, call.kind)


def product_of_blocks(call: Call, spelling: str) -> Tensor:
    """The op's result; ``spelling`` is the arithmetic as text."""
    if call.kind == "matmul":
        y = block_library.block_matmul(call.x, call.weight, spelling)
    elif call.kind == "linear":
        y = block_library.block_linear(call.x, call.weight, call.bias, spelling)
    else:
        window = conv_window(call.geometry)
        y = block_library.block_conv(call.x, call.weight, call.bias, *window, spelling)
    return cast(Tensor, y)
