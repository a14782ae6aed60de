"""Blocks that share a scale which is no power of two, in torch: divided by it, and multiplied."""

from __future__ import annotations

import torch
from torch import Tensor

from dovetail._eager import constant
from dovetail.formats.base import ElementFormat
from dovetail.formats.bits import Layout
from dovetail.formats.blocks import Blocks
from dovetail.formats.realise.elements import round_elements
from dovetail.formats.scaled import E4M3, NVFP4, ScaledBlock

__all__ = ["quotient", "ratios", "round_scaled", "scaled_parts", "tensor_scale", "two_levels"]


def round_scaled(
    x: Tensor,
    fmt: ScaledBlock | NVFP4,
    blocks: Blocks,
    layout: Layout,
    words: Tensor | None,
    scale: Tensor | None = None,
) -> Tensor:
    """``x``, split in ``blocks``, rounded to ``fmt`` in float32 or float64 as ``layout`` says."""
    ratio, step, finite = ratios(x, fmt, blocks, layout, scale)
    y = torch.where(step == 0, 0.0, round_elements(ratio, fmt.element, words) * step)
    top = torch.finfo(layout.dtype).max
    return torch.where(finite, y.clamp(-top, top), torch.nan)


def ratios(
    x: Tensor,
    fmt: ScaledBlock | NVFP4,
    blocks: Blocks,
    layout: Layout,
    scale: Tensor | None = None,
) -> tuple[Tensor, Tensor, Tensor]:
    """What is rounded to elements, what the elements are multiplied by, where blocks are finite."""
    ratio, step, finite, whole = scaled_parts(x, fmt, blocks, layout, scale)
    return ratio, step if whole is None else (whole * step).to(x.dtype), finite


def scaled_parts(
    x: Tensor,
    fmt: ScaledBlock | NVFP4,
    blocks: Blocks,
    layout: Layout,
    scale: Tensor | None = None,
) -> tuple[Tensor, Tensor, Tensor, Tensor | None]:
    """As :func:`ratios`, but with the blocks' own scales, and NVFP4's of the tensor at the end."""
    largest = blocks.largest(x, layout)
    finite = largest < torch.inf
    largest = torch.where(finite, largest, 0.0)
    if isinstance(fmt, ScaledBlock):
        step = round_elements(quotient(largest, _largest_of(fmt.element)), fmt.scale)
        return x / torch.where(step == 0, 1.0, step), step, finite, None
    g, s = two_levels(largest, scale)
    return x * (torch.reciprocal(g) / s).to(x.dtype), s, finite, g


def two_levels(largest: Tensor, scale: Tensor | None = None) -> tuple[Tensor, Tensor]:
    """NVFP4's tensor scale, unless it is given, and block scales, from the blocks' finite maxima.

    >>> two_levels(torch.tensor([2688.0, 6.0]))
    (tensor(1.), tensor([448.,   1.]))
    """
    largest = largest.clamp(max=torch.finfo(torch.float32).max).float()
    scale = tensor_scale(largest.amax()) if scale is None else scale
    s = round_elements((quotient(largest, 6.0) / scale).clamp(2.0**-6, 448.0), E4M3)
    return scale, s


def tensor_scale(largest: Tensor) -> Tensor:
    """NVFP4's tensor scale, from the largest magnitude of a tensor's finite blocks.

    >>> tensor_scale(torch.tensor(2688.0))
    tensor(1.)
    """
    scale = quotient(largest, 448.0 * 6.0).clamp(min=2.0**-120)
    return torch.where(largest == 0, 1.0, scale)


def quotient(x: Tensor, divisor: float) -> Tensor:
    """True division: by a Python number, some devices multiply with a rounded reciprocal.

    >>> quotient(torch.tensor(1.0), 3.0)
    tensor(0.3333)
    """
    return x / torch.full_like(x, divisor)


@constant
def _largest_of(fmt: ElementFormat) -> float:
    """``fmt.max``, which in a graph is a constant."""
    return fmt.max
