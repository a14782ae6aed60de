"""Blocks that share a power of two, in torch: rounded where they stand, never divided by it."""

from __future__ import annotations

import torch
from torch import Tensor

from dovetail.formats.bits import BINARY64, Layout, layout_of, round_pattern
from dovetail.formats.block import PowerScaled
from dovetail.formats.blocks import Blocks, format_blocks
from dovetail.formats.fixed import FixedFormat
from dovetail.formats.floating import FloatFormat
from dovetail.formats.realise.elements import parts, signed

__all__ = ["exponents", "round_power_scaled", "shared_exponents"]


def shared_exponents(x: Tensor, fmt: PowerScaled, axis: int = -1) -> tuple[Tensor, Tensor]:
    """Each block's scale exponent (int32 or int64), and whether the block holds no NaN or infinity.

    Both have ``x``'s shape with ``axis`` divided by the block size, rounded up.

    >>> from dovetail.formats import format
    >>> shared_exponents(torch.tensor([1.0, 7.0, 0.1, 0.0]), format("mxfp4(block=2)"))[0]
    tensor([ 0, -6], dtype=torch.int32)
    """
    blocks, layout = format_blocks(x, fmt, axis), layout_of(x.dtype)
    split = blocks.split(x.to(layout.dtype))
    exponent, finite = exponents(blocks.largest(split, layout), fmt)
    exponent = exponent.to(layout.integer)
    return exponent.squeeze(blocks.axis + 1), finite.squeeze(blocks.axis + 1)


def exponents(largest: Tensor, fmt: PowerScaled) -> tuple[Tensor, Tensor]:
    """Scale exponents of blocks from their largest magnitudes, and where those are finite.

    In float64, where every float32 and float16 number is normal.
    """
    u, f = largest.double().view(torch.int64), BINARY64.fraction
    finite = u < BINARY64.infinity
    if fmt.mode == "EVEN":
        u = u + (1 << (f - 1 - fmt.mantissa_bits))
    exponent, below = (u >> f) - BINARY64.bias, u & ((1 << f) - 1)
    if fmt.mode == "CEIL":
        exponent = exponent + (below > 0).to(exponent.dtype)
    elif fmt.mode == "RCEIL":
        top = BINARY64.pattern(fmt.element.max) & ((1 << f) - 1)
        exponent = exponent + (below > top).to(exponent.dtype)
    return (exponent - fmt.element.emax).clamp(*fmt.exponents), finite


def round_power_scaled(
    x: Tensor, fmt: PowerScaled, blocks: Blocks, layout: Layout, words: Tensor | None
) -> Tensor:
    """``x``, split in ``blocks``, rounded to ``fmt`` in float32 or float64 as ``layout`` says."""
    element = fmt.element
    assert isinstance(element, (FloatFormat, FixedFormat))
    u, negative = parts(x, layout)
    exponent, finite = exponents(blocks.largest(x, layout), fmt)
    exponent = exponent.to(layout.integer)
    y = round_pattern(
        u,
        negative,
        layout,
        fmt.rounding,
        exponent + element.quantum,
        element.mantissa if isinstance(element, FloatFormat) else None,
        tiny=layout is not BINARY64,
        parity=_parity(element, exponent),
        words=words,
    )
    top = _scaled_pattern(element.max, exponent, layout)
    if isinstance(element, FixedFormat) and not element.symmetric:
        top = torch.where(negative, _scaled_pattern(-element.min, exponent, layout), top)
    y = torch.minimum(y, top)
    if not element.has_negative_zero:
        negative = negative & (y > 0)
    return torch.where(finite, signed(y, negative, layout), torch.nan)


def _parity(element: FloatFormat | FixedFormat, exponent: Tensor) -> Tensor | None:
    """The exponent bias of elements without mantissa bits, seen before they are scaled."""
    if isinstance(element, FloatFormat) and element.mantissa == 0:
        return element.offset - exponent
    return None


def _scaled_pattern(value: float, exponent: Tensor, layout: Layout) -> Tensor:
    """The pattern of ``value * 2**exponent``, at most the largest finite number.

    The exponent of the product reaches the subnormals only at ``2**-127`` in float32.
    """
    scaled = (exponent << layout.fraction) + layout.pattern(value)
    scaled = scaled.clamp(max=layout.infinity - 1)
    if layout is BINARY64 or value >= 2.0:
        return scaled
    return torch.where(exponent == -127, layout.pattern(value * 2.0**-127), scaled)
