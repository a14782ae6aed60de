"""What a cast of one value means: exact arithmetic on Python numbers.

An element format says where ``x`` lies between the two of its values next to it (with the exponent
range unbounded upwards), one function chooses between them by the rounding mode, and saturation
comes last, as in IEEE P3109.
"""

from __future__ import annotations

import math
from bisect import bisect_left
from fractions import Fraction
from functools import cache
from typing import NamedTuple

from dovetail.formats.base import ElementFormat
from dovetail.formats.codebook import CodebookFormat, book_of
from dovetail.formats.fixed import FixedFormat
from dovetail.formats.floating import FloatFormat
from dovetail.formats.rounding import Rounding

__all__ = ["floor_log2", "round_value", "two_to"]


class Between(NamedTuple):
    """Where x lies between two neighbours, ``low < x < high``.

    ``side`` of the boundary between them: -1, 0 (a tie) or 1; ``odd`` is the parity of low's code;
    ``away`` whether high is the one farther from zero; ``part / whole`` how far x is on the way
    from the one nearer to zero to the other.
    """

    side: int
    odd: bool
    part: int
    whole: int
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


def _goes_up(x: Between, mode: Rounding, negative: bool, random: int) -> bool:
    """Whether x becomes its upper neighbour; ``negative`` is the sign of the value x stands for."""
    name = mode.name
    if name == "NearestTiesToEven":
        return x.side > 0 or (x.side == 0 and x.odd)
    if name == "NearestTiesToAway":
        return x.side > 0 or (x.side == 0 and x.away)
    if name == "TowardZero":
        return not x.away
    if name == "TowardPositive":
        return x.away != negative
    if name == "TowardNegative":
        return x.away == negative
    if name == "ToOdd":
        return not x.odd
    r = random >> (32 - mode.bits)
    one = 1 << (mode.bits + 1)
    return (x.part * one // x.whole + 2 * r + 1 >= one) == x.away


def _side(x: Fraction | int, boundary: Fraction | int) -> int:
    return (x > boundary) - (x < boundary)


def _on_grid(x: Fraction, unit: int) -> tuple[int, Between | None]:
    """The multiple of ``2**unit`` below ``x >= 0``, and where x lies above it: None if x is it."""
    ratio = x / two_to(unit)
    whole = ratio.denominator
    low, part = divmod(ratio.numerator, whole)
    return low, Between(_side(2 * part, whole), low % 2 == 1, part, whole) if part else None


@cache
def two_to(exponent: int) -> Fraction:
    """``2**exponent``, exactly.

    >>> two_to(-3)
    Fraction(1, 8)
    """
    return Fraction(2) ** exponent


def floor_log2(x: Fraction) -> int:
    """``floor(log2 x)`` of a positive x, exactly."""
    guess = x.numerator.bit_length() - x.denominator.bit_length()
    return guess if two_to(guess) <= x else guess - 1


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
    if not fmt.zero and size < two_to(first):
        return fmt.min
    if size == 0 or (not fmt.subnormals and size < two_to(first)):
        return sign * 0.0 if fmt.has_negative_zero else 0.0
    exponent = max(floor_log2(size), first)
    unit = exponent - fmt.mantissa
    multiple, between = _on_grid(size, unit)
    if between is not None:
        if fmt.mantissa == 0:  # the parity of a power of two is that of its exponent's code
            between = between._replace(odd=multiple > 0 and (exponent + fmt.offset) % 2 == 1)
        multiple += _goes_up(between, fmt.rounding, negative, random)
    chosen = multiple * two_to(unit)
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
    multiple, between = _on_grid(size, fmt.quantum)
    if between is not None:
        multiple += _goes_up(between, fmt.rounding, negative, random)
    multiple = -multiple if negative else multiple
    if fmt.clamp:
        multiple = max(fmt.lowest, min(fmt.highest, multiple))
    return float(multiple * two_to(fmt.quantum))  # a Fraction's zero has no sign


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
        between = Between(side, i % 2 == 1, *share.as_integer_ratio(), away)
        y = high if _goes_up(between, fmt.rounding, negative, random) else low
    return -y if negative and fmt.mirrored and y else y
