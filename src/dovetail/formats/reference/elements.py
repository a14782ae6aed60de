"""What a cast of one value means: exact arithmetic on Python numbers.

An element format gives the two of its values next to ``x`` (with the exponent range unbounded
upwards), one function chooses between them by the rounding mode, and saturation comes last, as in
IEEE P3109.
"""

from __future__ import annotations

import math
from bisect import bisect_left
from fractions import Fraction
from typing import NamedTuple

from dovetail.formats.base import ElementFormat
from dovetail.formats.codebook import CodebookFormat, book_of
from dovetail.formats.fixed import FixedFormat
from dovetail.formats.floating import FloatFormat
from dovetail.formats.rounding import Rounding

__all__ = ["floor_log2", "round_value"]


class Neighbours(NamedTuple):
    """``low <= x < high`` next to each other; where x lies relative to the boundary between them.

    ``side`` is -1, 0 (a tie) or 1; ``odd`` the parity of low's code; ``away`` whether
    high is the one farther from zero; ``share`` how far x is on the way from the other one to it.
    """

    low: Fraction
    high: Fraction
    side: int
    odd: bool
    share: Fraction
    away: bool = True


def round_value(x: float | Fraction, fmt: ElementFormat, random: int = 0) -> float:
    """One value, rounded. ``random`` is the word of 32 random bits of stochastic rounding.

    >>> round_value(464.0, FloatFormat(4, 3, specials="fn")), round_value(0.3, FixedFormat(8, 1))
    (448.0, 0.5)
    """
    if isinstance(x, float) and math.isnan(x):
        return math.nan
    if isinstance(fmt, FloatFormat):
        return _round_float(x, fmt, random)
    if isinstance(fmt, FixedFormat):
        return _round_fixed(x, fmt, random)
    assert isinstance(fmt, CodebookFormat)
    return _round_by_book(x, fmt, random)


def _choose(x: Fraction, near: Neighbours, mode: Rounding, negative: bool, random: int) -> Fraction:
    """The neighbour that ``x`` becomes; ``negative`` is the sign of the value x stands for."""
    if x == near.low:
        return near.low
    name = mode.name
    if name == "NearestTiesToEven":
        up = near.side > 0 or (near.side == 0 and near.odd)
    elif name == "NearestTiesToAway":
        up = near.side > 0 or (near.side == 0 and near.away)
    elif name == "TowardZero":
        up = not near.away
    elif name == "TowardPositive":
        up = near.away != negative
    elif name == "TowardNegative":
        up = near.away == negative
    elif name == "ToOdd":
        up = not near.odd
    else:
        r = random >> (32 - mode.bits)
        one = 1 << (mode.bits + 1)
        up = (math.floor(near.share * one) + 2 * r + 1 >= one) == near.away
    return near.high if up else near.low


def _side(x: Fraction, boundary: Fraction) -> int:
    return (x > boundary) - (x < boundary)


def _on_grid(x: Fraction, step: Fraction) -> Neighbours:
    """The multiples of ``step`` around ``x >= 0``; the parity is the multiple's."""
    k = math.floor(x / step)
    low, high = k * step, (k + 1) * step
    return Neighbours(low, high, _side(x, (low + high) / 2), k % 2 == 1, x / step - k)


def floor_log2(x: Fraction) -> int:
    """``floor(log2 x)`` of a positive x, exactly."""
    guess = x.numerator.bit_length() - x.denominator.bit_length()
    return guess if Fraction(2) ** guess <= x else guess - 1


def _negative(x: float | Fraction) -> bool:
    return math.copysign(1.0, x) < 0 if isinstance(x, float) else x < 0


def _round_float(x: float | Fraction, fmt: FloatFormat, random: int) -> float:
    negative = _negative(x)
    if negative and not fmt.signed:
        if not fmt.magnitude:
            return fmt.min
        x, negative = -x, False
    sign = -1.0 if negative else 1.0
    if isinstance(x, float) and math.isinf(x):
        return sign * _overflow(fmt, negative, infinite=True)
    size = abs(Fraction(x))
    first = (1 if fmt.zero else 0) - fmt.offset
    if size < Fraction(2) ** first and not fmt.zero:
        return fmt.min
    if size == 0 or (size < Fraction(2) ** first and not fmt.subnormals):
        return sign * 0.0 if fmt.has_negative_zero else 0.0
    exponent = max(floor_log2(size), first)
    near = _on_grid(size, Fraction(2) ** (exponent - fmt.mantissa))
    if fmt.mantissa == 0:  # the parity of a power of two is that of its exponent's code
        near = near._replace(odd=near.low > 0 and (exponent + fmt.offset) % 2 == 1)
    chosen = _choose(size, near, fmt.rounding, negative, random)
    over = chosen > Fraction(fmt.max)
    y = _overflow(fmt, negative, infinite=False) if over else float(chosen)
    return sign * y if y or fmt.has_negative_zero else 0.0


def _overflow(fmt: FloatFormat, negative: bool, infinite: bool) -> float:
    """The magnitude of what lies beyond the largest finite value."""
    if fmt.saturation == "SatFinite" or (fmt.saturation == "SatPropagate" and not infinite):
        return fmt.max
    inward = ("TowardZero", "ToOdd", "TowardPositive" if negative else "TowardNegative")
    if not infinite and fmt.rounding.name in inward:
        return fmt.max
    return math.inf if fmt.has_inf else math.nan if fmt.has_nan else fmt.max


def _round_fixed(x: float | Fraction, fmt: FixedFormat, random: int) -> float:
    if isinstance(x, float) and math.isinf(x):
        return (fmt.min if x < 0 else fmt.max) if fmt.clamp else x
    negative, size = _negative(x), abs(Fraction(x))
    near = _on_grid(size, Fraction(2) ** fmt.quantum)
    y = _choose(size, near, fmt.rounding, negative, random)
    y = -y if negative else y
    if fmt.clamp:
        y = max(Fraction(fmt.min), min(Fraction(fmt.max), y))
    return float(y)  # a Fraction's zero has no sign


def _round_by_book(x: float | Fraction, fmt: CodebookFormat, random: int) -> float:
    if isinstance(x, float) and math.isinf(x):
        return fmt.min if x < 0 else fmt.max
    book, exact = book_of(fmt), Fraction(x)
    if exact < Fraction(fmt.min):
        return fmt.min
    negative = exact < 0
    value = abs(exact) if fmt.mirrored else exact
    place = bisect_left(book.values, value)
    if place == len(book.values):
        y = book.values[-1]
    elif book.values[place] == value:
        y = book.values[place]
    else:
        i = place - 1
        low, high = book.values[i], book.values[i + 1]
        side = _side(value, Fraction(book.boundaries[i]))
        side = -1 if side == 0 and not book.exact[i] else side
        # The one thing that is not exact: the share is a quotient of float64 differences.
        away = fmt.mirrored or value >= 0
        share = (float(value) - low) / (high - low)
        share = share if away else 1 - share
        near = Neighbours(Fraction(low), Fraction(high), side, i % 2 == 1, Fraction(share), away)
        y = float(_choose(value, near, fmt.rounding, negative, random))
    return -y if negative and fmt.mirrored and y else y
