"""Posit numbers: exponents in unary-coded regimes, precision tapering off towards the ends."""

from __future__ import annotations

from dataclasses import dataclass
from fractions import Fraction

from dovetail.errors import DovetailError
from dovetail.formats.codebook import Book, CodebookFormat, floor64
from dovetail.formats.rounding import NEAREST_EVEN, Rounding

__all__ = ["PositFormat", "decode_posit"]


def decode_posit(pattern: int, width: int, es: int) -> Fraction:
    """The value of a positive posit's bit pattern (sign bit 0), exactly.

    >>> decode_posit(0b0100_0000, 8, 1), decode_posit(0b0111_1111, 8, 1)
    (Fraction(1, 1), Fraction(4096, 1))
    """
    if pattern == 0:
        return Fraction(0)
    text = format(pattern, f"0{width - 1}b")
    run = len(text) - len(text.lstrip(text[0]))
    regime = run - 1 if text[0] == "1" else -run
    rest = text[run + 1 :]
    exponent = int(rest[:es].ljust(es, "0") or "0", 2)
    fraction = rest[es:]
    significand = Fraction(int("1" + fraction, 2), 1 << len(fraction))
    return significand * Fraction(2) ** (regime * (1 << es) + exponent)


@dataclass(frozen=True, repr=False)
class PositFormat(CodebookFormat):
    """``posit(width, es)`` with ``es`` exponent bits (the 2022 standard fixes es = 2).

    Rounding to nearest is that of the Posit Standard (2022): the boundary between two neighbours is
    the posit of one bit more between them, ties go to the even pattern, and what is not zero never
    becomes zero, what is finite never NaR. The other modes choose between the two neighbours as
    everywhere. There is one NaN (NaR), to which an infinity of the input is *not* mapped: it
    saturates. No -0.

    >>> PositFormat(8, 1).max, PositFormat(8, 1).smallest_subnormal
    (4096.0, 0.000244140625)
    """

    width: int
    es: int = 2
    rounding: Rounding = NEAREST_EVEN

    def __post_init__(self) -> None:
        if not 3 <= self.width <= 16 or not 0 <= self.es <= 3:
            width, es = min(max(self.width, 3), 16), min(max(self.es, 0), 3)
            raise DovetailError(
                f"posit({self.width}, {self.es}): 3 to 16 bits, es 0 to 3; the nearest is "
                f"'posit({width}, {es})'"
            )

    @property
    def bits(self) -> int:
        """Width of a code."""
        return self.width

    @property
    def has_nan(self) -> bool:
        """Whether NaN has a code."""
        return True

    def book(self) -> Book:
        count = 1 << (self.width - 1)
        values = tuple(float(decode_posit(p, self.width, self.es)) for p in range(count))
        between = [
            floor64(decode_posit(2 * p + 1, self.width + 1, self.es)) for p in range(count - 1)
        ]
        between[0] = (0.0, False)  # above zero already means the smallest value
        return Book.of(values, between)

    @property
    def spelling(self) -> str:
        from dovetail.formats.names.spell import spell_posit

        return spell_posit(self)
