"""Where a cast does not clip: the mask of the straight-through gradient."""

from __future__ import annotations

import torch
from torch import Tensor

from dovetail._eager import constant
from dovetail.formats.base import BlockFormat, ElementFormat, Format, Same
from dovetail.formats.bits import layout_of
from dovetail.formats.block import PowerScaled
from dovetail.formats.blocks import format_blocks
from dovetail.formats.floating import FloatFormat
from dovetail.formats.realise.powers import exponents
from dovetail.formats.realise.ratios import ratios
from dovetail.formats.scaled import NVFP4, ScaledBlock

__all__ = ["inside"]


def inside(x: Tensor, fmt: Format, axis: int = -1, scale: Tensor | None = None) -> Tensor:
    """Where rounding ``x`` to nearest stays within the format's finite range: what does not clip.

    ``axis`` and ``scale`` are those of :func:`dovetail.formats.realise.round_values`.

    >>> inside(torch.tensor([1.0, 500.0, torch.nan]), FloatFormat(4, 3, specials="fn"))
    tensor([ True, False, False])
    """
    if isinstance(fmt, Same) or x.numel() == 0:
        return torch.isfinite(x)
    wide = x.to(layout_of(x.dtype).dtype)
    if isinstance(fmt, ElementFormat):
        wide = wide.abs() if isinstance(fmt, FloatFormat) and fmt.magnitude else wide
        low, high = _bound_of(fmt, 0), _bound_of(fmt, 1)
        return (wide > low) & (wide < high)
    assert isinstance(fmt, BlockFormat)
    blocks, layout = format_blocks(x, fmt, axis), layout_of(x.dtype)
    split = blocks.split(wide)
    low, high = _bound_of(fmt, 0), _bound_of(fmt, 1)
    if isinstance(fmt, PowerScaled):
        exponent, finite = exponents(blocks.largest(split, layout), fmt)
        ratio = torch.ldexp(split.double(), -exponent)
    else:
        assert isinstance(fmt, (ScaledBlock, NVFP4))
        ratio, _, finite = ratios(split, fmt, blocks, layout, scale)
    return blocks.join(finite & (ratio > low) & (ratio < high))


@constant
def _bound_of(fmt: ElementFormat | BlockFormat, end: int) -> float:
    """One of the bounds of a format or of its elements, which in a graph is a constant."""
    element = fmt.element if isinstance(fmt, BlockFormat) else fmt
    return element.bounds[end]
