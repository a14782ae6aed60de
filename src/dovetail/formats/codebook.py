"""Formats that are a list of values: how the list and the boundaries between its entries look."""

from __future__ import annotations

import math
from abc import abstractmethod
from collections.abc import Iterable, Sequence
from fractions import Fraction
from functools import lru_cache
from typing import NamedTuple

from dovetail.errors import DovetailError
from dovetail.formats.base import ElementFormat

__all__ = ["Book", "CodebookFormat", "book_of", "float32_near", "floor64"]


class Book(NamedTuple):
    """The values in ascending order, and between neighbours the boundary of rounding to nearest.

    ``boundaries[i]`` lies between ``values[i]`` and ``values[i + 1]``; it is the largest float64
    that does not exceed the true boundary, and ``exact[i]`` says whether it is the true one: only
    then is there a tie. The parity of a code is that of its place in the list.
    """

    values: tuple[float, ...]
    boundaries: tuple[float, ...]
    exact: tuple[bool, ...]

    @staticmethod
    def of(values: Iterable[float], boundaries: Sequence[tuple[float, bool]]) -> Book:
        """From boundaries as :func:`floor64` gives them."""
        places, exact = (b for b, _ in boundaries), (e for _, e in boundaries)
        return Book(tuple(values), tuple(places), tuple(exact))


class CodebookFormat(ElementFormat):
    """An element format given by its list of values.

    With ``mirrored`` the list holds magnitudes and signs are kept apart.
    """

    mirrored: bool = True
    signed: bool = True

    @abstractmethod
    def book(self) -> Book:
        """Values and boundaries; `book_of` remembers them."""

    @property
    def max(self) -> float:
        """The largest finite value."""
        return book_of(self).values[-1]

    @property
    def min(self) -> float:
        """The most negative finite value, or the smallest of an unsigned format."""
        values = book_of(self).values
        if self.mirrored:
            return -values[-1] if self.signed else 0.0
        return values[0]

    @property
    def emax(self) -> int:
        """Exponent of the largest finite value: ``floor(log2(max))``."""
        return math.frexp(self.max)[1] - 1

    @property
    def smallest_normal(self) -> float:
        """The smallest positive value: precision is not uniform here."""
        return min(v for v in book_of(self).values if v > 0)

    @property
    def smallest_subnormal(self) -> float:
        """The smallest positive value."""
        return self.smallest_normal

    @property
    def bounds(self) -> tuple[float, float]:
        """Beyond these values rounding to nearest overflows: half a step outside min and max."""
        values = book_of(self).values
        high = values[-1] + (values[-1] - values[-2]) / 2
        if self.mirrored:
            return (-high if self.signed else -values[1] / 2), high
        return values[0] - (values[1] - values[0]) / 2, high


@lru_cache(maxsize=64)
def book_of(fmt: CodebookFormat) -> Book:
    """The book of a format, made once."""
    return fmt.book()


def floor64(x: Fraction) -> tuple[float, bool]:
    """The largest float64 that does not exceed ``x``, and whether it equals ``x``.

    >>> floor64(Fraction(1, 2)), floor64(Fraction(1, 3))[1]
    ((0.5, True), False)
    """
    near = float(x)
    if Fraction(near) > x:
        near = math.nextafter(near, -math.inf)
    return near, Fraction(near) == x


def float32_near(x: float | Fraction) -> float:
    """The float32 nearest to ``x`` (ties to even), as a Python float.

    >>> float32_near(0.1)
    0.10000000149011612
    """
    exact = Fraction(x)
    if exact == 0:
        return float(x)
    exponent = math.frexp(float(exact))[1] - 24
    step = Fraction(2) ** max(exponent, -149)
    near = float(round(exact / step) * step)  # Fractions round half to even
    if abs(near) >= 2.0**128:
        raise DovetailError(f"{float(x)} is beyond float32, which is what tables hold")
    return near
