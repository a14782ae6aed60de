"""The logarithmic number system: a sign and the base-2 logarithm in fixed point."""

from __future__ import annotations

from dataclasses import dataclass
from fractions import Fraction
from math import isqrt

from dovetail.errors import DovetailError
from dovetail.formats.codebook import Book, CodebookFormat, float32_near, floor64
from dovetail.formats.rounding import NEAREST_EVEN, Rounding

__all__ = ["LogFormat"]

_PRECISION = 96  # bits after the point in roots of two; far more than float64 needs


@dataclass(frozen=True, repr=False)
class LogFormat(CodebookFormat):
    """``±2**(k * 2**-fraction)`` for two's-complement ``k`` of ``integer + fraction`` bits, and 0.

    The lowest ``k`` is the code of zero. A value that is no power of two is irrational: the format
    holds the float32 nearest to it. To nearest is measured on the logarithm, with boundaries
    ``2**((k + 1/2) * 2**-fraction)`` compared exactly; they are irrational, so there are no ties.
    Between zero and the smallest magnitude the boundary is half of that magnitude. Stochastic
    rounding is unbiased in the value, not in its logarithm. Infinities saturate; no NaN, no -0.

    >>> fmt = LogFormat(4, 1)
    >>> fmt.bits, fmt.max, fmt.smallest_subnormal
    (6, 181.0193328857422, 0.005524271633476019)
    """

    integer: int
    fraction: int = 0
    signed: bool = True
    rounding: Rounding = NEAREST_EVEN

    def __post_init__(self) -> None:
        if not 1 <= self.integer <= 8 or not 0 <= self.fraction <= 8:
            i, f = min(max(self.integer, 1), 8), min(max(self.fraction, 0), 8)
            raise DovetailError(
                f"log({self.integer}, {self.fraction}): the logarithm has 1 to 8 integer and 0 to "
                f"8 fraction bits; the nearest is 'log({i}, {f})'"
            )

    @property
    def bits(self) -> int:
        """Sign and logarithm together."""
        return self.signed + self.integer + self.fraction

    def book(self) -> Book:
        steps = 1 << self.fraction
        octave = [_root_of_two(r, self.fraction) for r in range(steps)]
        middles = [_root_of_two(2 * r + 1, self.fraction + 1) for r in range(steps)]
        top = 1 << (self.integer + self.fraction - 1)
        codes = range(1 - top, top)
        values = [float32_near(octave[k % steps] * Fraction(2) ** (k // steps)) for k in codes]
        bounds = [middles[k % steps] * Fraction(2) ** (k // steps) for k in codes[:-1]]
        between = [floor64(Fraction(values[0]) / 2), *((floor64(b)[0], False) for b in bounds)]
        return Book.of((0.0, *values), between)

    @property
    def spelling(self) -> str:
        from dovetail.formats.names.spell import spell_log

        return spell_log(self)


def _root_of_two(numerator: int, fraction: int) -> Fraction:
    """``2 ** (numerator / 2**fraction)`` truncated to ``_PRECISION`` bits after the point.

    A chain of integer square roots of truncated integers is the truncated root.
    """
    root = 1 << (numerator + _PRECISION * (1 << fraction))
    for _ in range(fraction):
        root = isqrt(root)
    return Fraction(root, 1 << _PRECISION)
