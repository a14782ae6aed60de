"""Element formats in torch: each value rounded by itself, on its bit pattern."""

from __future__ import annotations

import torch
from torch import Tensor

from dovetail.formats.base import ElementFormat
from dovetail.formats.bits import BINARY64, Layout, layout_of, round_pattern
from dovetail.formats.codebook import CodebookFormat
from dovetail.formats.fixed import FixedFormat
from dovetail.formats.floating import FloatFormat
from dovetail.formats.realise.books import round_by_book

__all__ = ["parts", "round_elements", "signed"]


def round_elements(x: Tensor, fmt: ElementFormat, words: Tensor | None = None) -> Tensor:
    """float32 or float64 values, each rounded by itself.

    >>> round_elements(torch.tensor([1.03, 464.1]), FloatFormat(4, 3, specials="fn"))
    tensor([  1., 448.])
    """
    if isinstance(fmt, FloatFormat):
        return _round_float(x, fmt, words)
    if isinstance(fmt, FixedFormat):
        return _round_fixed(x, fmt, words)
    assert isinstance(fmt, CodebookFormat)
    return round_by_book(x, fmt, words)


def parts(x: Tensor, layout: Layout) -> tuple[Tensor, Tensor]:
    """Magnitude pattern and sign of each value."""
    pattern = x.view(layout.integer)
    return pattern & layout.magnitude, pattern < 0


def signed(u: Tensor, negative: Tensor, layout: Layout) -> Tensor:
    """The values of magnitude patterns with signs."""
    return (u | (negative.to(u.dtype) << (layout.width - 1))).view(layout.dtype)


def _round_float(x: Tensor, fmt: FloatFormat, words: Tensor | None) -> Tensor:
    layout = layout_of(x.dtype)
    first = (1 if fmt.zero else 0) - fmt.offset
    narrow = layout is not BINARY64
    if narrow and not (first - fmt.mantissa <= 127 and fmt.smallest_subnormal >= 2.0**-149):
        return _round_float(x.double(), fmt, words).to(x.dtype)
    u, negative = parts(x, layout)
    if fmt.magnitude:
        negative = torch.zeros_like(negative)
    is_nan, is_inf = u > layout.infinity, u == layout.infinity
    y = round_pattern(
        u,
        negative,
        layout,
        fmt.rounding,
        first - fmt.mantissa,
        fmt.mantissa,
        tiny=first < 1 - layout.bias,
        parity=fmt.offset if fmt.mantissa == 0 else None,
        words=words,
    )
    if not fmt.subnormals:
        y = torch.where(u < layout.pattern(2.0**first), 0, y)
    if not fmt.zero:
        y = torch.where(u < layout.pattern(fmt.min), layout.pattern(fmt.min), y)
    y = _saturate(y, is_inf, negative, fmt, layout)
    if not fmt.signed:
        y = torch.where(negative, layout.pattern(fmt.min), y)
        negative = torch.zeros_like(negative)
    elif not fmt.has_negative_zero:
        negative = negative & (y > 0)
    return torch.where(is_nan, x, signed(y, negative, layout))


def _saturate(
    y: Tensor, is_inf: Tensor, negative: Tensor, fmt: FloatFormat, layout: Layout
) -> Tensor:
    """What becomes of magnitudes beyond the largest finite one, and of infinities."""
    top = layout.pattern(fmt.max)
    nan = layout.infinity + (1 << (layout.fraction - 1))
    beyond = layout.infinity if fmt.has_inf else nan if fmt.has_nan else top
    if fmt.saturation == "SatFinite":
        return torch.where(is_inf, top, y.clamp(max=top))
    name = fmt.rounding.name
    if fmt.saturation == "SatPropagate" or name in ("TowardZero", "ToOdd"):
        return torch.where(is_inf, beyond, y.clamp(max=top))
    over = is_inf | (y > top)
    if name in ("TowardPositive", "TowardNegative"):
        inward = negative if name == "TowardPositive" else ~negative
        y = torch.where(inward, y.clamp(max=top), y)
        over = is_inf | (y > top)
    return torch.where(over, beyond, y)


def _round_fixed(x: Tensor, fmt: FixedFormat, words: Tensor | None) -> Tensor:
    layout = layout_of(x.dtype)
    u, negative = parts(x, layout)
    y = round_pattern(u, negative, layout, fmt.rounding, fmt.quantum, None, words=words)
    rounded = signed(y, negative, layout)
    rounded = torch.where(u >= layout.infinity, x, rounded)
    if fmt.clamp:
        rounded = rounded.clamp(fmt.min, fmt.max)
    return rounded + 0.0  # -0 + 0 is +0
