"""Rounding on the bit patterns of float32 and float64 tensors: integer operations only.

A pattern without its sign is an integer that grows with the magnitude, and adding to it carries
from the mantissa into the exponent, so a rounded magnitude is ``pattern - dropped + increment``.
No value is ever scaled, added to a large constant or taken a logarithm of: there is one rounding,
and it is exact for subnormals and the largest numbers alike.
"""

from __future__ import annotations

import math
from typing import NamedTuple

import torch
from torch import Tensor

from dovetail.formats.rounding import Rounding

__all__ = ["BINARY32", "BINARY64", "Layout", "layout_of", "power_of_two", "round_pattern"]


class Layout(NamedTuple):
    """How a floating dtype is laid out: ``fraction`` bits below a biased exponent and a sign."""

    dtype: torch.dtype
    integer: torch.dtype
    width: int
    fraction: int
    bias: int

    @property
    def infinity(self) -> int:
        """The pattern of +inf; NaNs are above it."""
        return (2 * self.bias + 1) << self.fraction

    @property
    def magnitude(self) -> int:
        """The mask of everything but the sign."""
        return (1 << (self.width - 1)) - 1

    @property
    def lowest(self) -> int:
        """Exponent of the smallest subnormal."""
        return 1 - self.bias - self.fraction

    def pattern(self, x: float) -> int:
        """The pattern of a value ``x >= 0`` of this dtype; too large ones as infinity.

        >>> hex(BINARY32.pattern(1.0)), hex(BINARY32.pattern(1e300))
        ('0x3f800000', '0x7f800000')
        """
        if x == 0.0 or x == math.inf:
            return 0 if x == 0.0 else self.infinity
        exponent = max(math.frexp(x)[1] - 1, 1 - self.bias)
        units = round(x / 2.0 ** max(exponent - self.fraction, -1074))
        return min(units + ((exponent + self.bias - 1) << self.fraction), self.infinity)


BINARY32 = Layout(torch.float32, torch.int32, 32, 23, 127)
BINARY64 = Layout(torch.float64, torch.int64, 64, 52, 1023)


def power_of_two(exponent: Tensor) -> Tensor:
    """``2**exponent`` in float64, exactly, for the exponents of its normal numbers: -1022..1023.

    >>> power_of_two(torch.tensor([-1, 10]))
    tensor([5.0000e-01, 1.0240e+03], dtype=torch.float64)
    """
    return ((exponent.to(torch.int64) + BINARY64.bias) << BINARY64.fraction).view(torch.float64)


def layout_of(dtype: torch.dtype) -> Layout:
    """The layout in which values of ``dtype`` are rounded.

    >>> layout_of(torch.bfloat16).dtype
    torch.float32
    """
    return BINARY64 if dtype == torch.float64 else BINARY32


def round_pattern(
    u: Tensor,
    negative: Tensor,
    layout: Layout,
    mode: Rounding,
    quantum: int | Tensor,
    mantissa: int | None,
    *,
    tiny: bool = False,
    parity: int | Tensor | None = None,
    words: Tensor | None = None,
) -> Tensor:
    """Magnitude patterns ``u`` rounded to ``mantissa`` bits, in steps of at least ``2**quantum``.

    ``mantissa=None`` keeps every bit down to the quantum (fixed point). ``quantum`` may be a tensor
    that broadcasts (one per block). ``tiny`` says that values may be subnormal in ``layout`` and
    yet normal in the format. ``parity`` is for formats without mantissa bits: the exponent bias
    whose code parity decides ties (a tensor: one per block). ``words`` are the random words of
    stochastic rounding. Patterns of infinity and NaN come out as anything; the exponent is
    unbounded upwards only as far as ``layout`` goes: beyond that, the pattern of infinity.
    """
    f = layout.fraction
    exponent = (u >> f).clamp(min=1)
    significand = u - ((exponent - 1) << f)  # with the leading one; exact integers times 2**lowest
    shift = (quantum - layout.lowest + 1) - exponent
    position: int | Tensor = f
    if mantissa is not None and mantissa < f:
        if tiny:  # where the leading one of a subnormal stands
            position = (significand.to(layout.dtype).view(layout.integer) >> f) - layout.bias
            shift = torch.maximum(shift, position - mantissa)
        else:
            shift = shift.clamp(min=f - mantissa)
    drop = shift.clamp(0, f + 2)  # beyond, everything is dropped and less than half a step
    rest = significand & ((1 << drop) - 1)
    up = _up(
        significand, rest, drop, shift, negative, layout, mode, exponent, position, parity, words
    )
    within = u - rest + (up << drop)
    # Steps above the value's own binade: the result is zero or one step.
    step = _pattern_of_power(quantum, layout)
    return torch.where(drop > f, up * step, within)


def _up(
    significand: Tensor,
    rest: Tensor,
    drop: Tensor,
    shift: Tensor,
    negative: Tensor,
    layout: Layout,
    mode: Rounding,
    exponent: Tensor,
    position: int | Tensor,
    parity: int | Tensor | None,
    words: Tensor | None,
) -> Tensor:
    """1 where the magnitude is rounded up, else 0."""
    name = mode.name
    if name == "TowardZero":
        return torch.zeros_like(rest)
    if name in ("TowardPositive", "TowardNegative"):
        outward = negative if name == "TowardNegative" else ~negative
        return ((rest > 0) & outward).to(rest.dtype)
    half = ((1 << drop) >> 1).clamp(min=1)  # of a step; 1 where nothing is dropped: rest is 0
    if name == "NearestTiesToAway":
        return (rest >= half).to(rest.dtype)
    if name == "Stochastic":
        assert words is not None
        return _stochastic(rest, shift, mode.bits, words, layout)
    odd = (significand >> drop) & 1
    if parity is not None:
        code = exponent + position + (parity - layout.bias - layout.fraction)
        odd = torch.where((significand >> drop) > 0, code & 1, 0)
    if name == "ToOdd":
        return ((rest > 0) & (odd == 0)).to(rest.dtype)
    return (rest + odd > half).to(rest.dtype)


def _stochastic(rest: Tensor, shift: Tensor, bits: int, words: Tensor, layout: Layout) -> Tensor:
    """StochasticB: ``floor(share * 2**(bits + 1)) + 2R + 1 >= 2**(bits + 1)``."""
    draw = (words >> (32 - bits)).to(rest.dtype)
    excess = shift - (bits + 1)
    share = torch.where(
        excess > 0,
        rest >> excess.clamp(0, layout.width - 1),
        rest << (-excess).clamp(0, bits + 1),
    )
    return (share + 2 * draw + 1 >= (1 << (bits + 1))).to(rest.dtype)


def _pattern_of_power(exponent: int | Tensor, layout: Layout) -> int | Tensor:
    """The pattern of ``2**exponent``; used only where that is above the smallest normal number."""
    code = exponent + layout.bias
    if isinstance(code, int):
        return min(max(code, 0), 2 * layout.bias + 1) << layout.fraction
    return code.clamp(0, 2 * layout.bias + 1) << layout.fraction
