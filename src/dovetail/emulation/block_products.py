"""Calls whose operands are block formats: multiplied block by block, as hardware does.

:func:`how_multiplied` says of every product whether it is one.
"""

from __future__ import annotations

from typing import cast

from torch import Tensor, nn

from dovetail.arithmetic import EXACT, Arithmetic
from dovetail.emulation.calls import Call
from dovetail.emulation.casting import cast_slot
from dovetail.emulation.site import Site
from dovetail.formats.realise import is_stochastic
from dovetail.kernels import block_library
from dovetail.kernels.block_pairs import qualifies
from dovetail.kernels.geometry import Geometry
from dovetail.kernels.library import conv_window
from dovetail.multipliers import FloatMultiplier

__all__ = ["how_multiplied", "multiplies_blocks", "product_of_blocks", "with_random_casts"]


def how_multiplied(arithmetic: Arithmetic, kind: str, geometry: Geometry) -> str:
    """How products are formed and summed, in words.

    ``codes``: of integer codes, exactly summed unless an accumulator says otherwise; ``exact
    blocks``: block by block, each dot exact, then in order (:mod:`dovetail.kernels.block_pairs`);
    ``floats``: by a floating-point multiplier, then in order; ``cast, then accumulated``: of cast
    values, in the order and width of the accumulator; ``cast, then torch``: of cast values, in
    whatever order torch sums them on the device.

    >>> from dovetail.formats import format
    >>> from dovetail.kernels.geometry import LINEAR
    >>> mx, int8 = format("mxfp8_e4m3"), format("int8")
    >>> how_multiplied(Arithmetic(input=mx, weight=mx), "linear", LINEAR)
    'exact blocks'
    >>> how_multiplied(Arithmetic(input=mx, weight=int8), "linear", LINEAR)
    'cast, then torch'
    """
    if isinstance(arithmetic.mul, FloatMultiplier):
        return "floats"
    if arithmetic.multiplies_codes:
        return "codes"
    if _blocks(arithmetic, kind, geometry):
        return "exact blocks"
    return "cast, then torch" if arithmetic.acc is None else "cast, then accumulated"


def multiplies_blocks(arithmetic: Arithmetic, call: Call) -> bool:
    """Whether blocks are multiplied exactly, one by one, and the accumulator (float32 without one)
    takes their sums: see :func:`dovetail.kernels.block_pairs.qualifies`."""
    return _blocks(arithmetic, call.kind, call.geometry)


def _blocks(arithmetic: Arithmetic, kind: str, geometry: Geometry) -> bool:
    if arithmetic.mul != EXACT.mul:
        return False
    return qualifies(arithmetic.input, arithmetic.weight, geometry, kind)


def with_random_casts(site: Site, module: nn.Module, call: Call) -> Call:
    """``call`` with the operands cast that round stochastically: blocks take those as they are."""
    x, weight, arithmetic = call.x, call.weight, site.arithmetic
    if arithmetic.input is not None and is_stochastic(arithmetic.input):
        x = cast_slot(x, arithmetic.input, "input", site, module)
    if arithmetic.weight is not None and is_stochastic(arithmetic.weight):
        weight = cast_slot(weight, arithmetic.weight, "weight", site, module)
    return call.with_operands(x, weight, call.bias)


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
