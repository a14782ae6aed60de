"""What families on magnitudes share: the leading one, and the sign put back."""

from __future__ import annotations

from abc import abstractmethod
from typing import Any

import numpy as np

from dovetail._numbers import is_whole
from dovetail.errors import DovetailError
from dovetail.multipliers.base import Multiplier
from dovetail.multipliers.factors import Factors
from dovetail.multipliers.operands import IntArray, operand_range, operand_values

__all__ = ["OnMagnitudes", "Reduced", "Remainders", "check_whole", "leading_one"]

TABLE_BITS = 16  # up to here the largest product is looked up among all


class OnMagnitudes(Multiplier):
    """``f(a, w) = sign(a) sign(w) g(|a|, |w|)``, with ``g`` on magnitudes and 0 being positive."""

    @abstractmethod
    def _magnitude(self, first: IntArray, second: IntArray) -> IntArray:
        """The product ``g`` of two magnitudes."""

    def _product(self, first: IntArray, second: IntArray) -> IntArray:
        product = self._magnitude(np.abs(first), np.abs(second))
        return np.asarray(np.where((first < 0) != (second < 0), -product, product))

    def _largest(self) -> tuple[int, int]:
        """The largest magnitude of either operand."""
        first, second = (max(-low, high) for low, high in self._ranges())
        return first, second

    def _ranges(self) -> list[tuple[int, int]]:
        return [operand_range(bits, self.signed) for bits in self._width()]

    @abstractmethod
    def _bound(self) -> int:
        """A number that no ``|f|`` exceeds."""

    def _find_max_abs(self) -> int:
        return super()._find_max_abs() if self._tabulable(TABLE_BITS) else self._bound()


class Reduced(OnMagnitudes):
    """Products of operands that were each reduced to fewer significant bits: of rank 1."""

    @abstractmethod
    def _kept(self, magnitude: IntArray, bits: int) -> IntArray:
        """What is left of a magnitude of ``bits`` bits."""

    def _magnitude(self, first: IntArray, second: IntArray) -> IntArray:
        bits = self._width()
        return self._kept(first, bits[0]) * self._kept(second, bits[1])

    def _find_factors(self) -> Factors:
        sides = []
        for bits in self._width():
            values = operand_values(bits, self.signed)
            sides.append((np.sign(values) * self._kept(np.abs(values), bits))[None])
        return Factors(*sides)

    def _bound(self) -> int:
        factors = self._find_factors()
        return int(np.abs(factors.first).max()) * int(np.abs(factors.second).max())


class Remainders(OnMagnitudes):
    """``g(a, w) = a w - scale * r(a) r(w)``: what is left out is a product, so of rank 2."""

    @property
    def _scale(self) -> int:
        return 1

    @abstractmethod
    def _remainder(self, magnitude: IntArray) -> IntArray:
        """The part of an operand whose product with the other's is left out."""

    def _magnitude(self, first: IntArray, second: IntArray) -> IntArray:
        left_out = self._remainder(first) * self._remainder(second)
        return np.asarray(first * second - self._scale * left_out)

    def _find_factors(self) -> Factors:
        values = [operand_values(bits, self.signed) for bits in self._width()]
        rest = [np.sign(side) * self._remainder(np.abs(side)) for side in values]
        if not (rest[0].any() and rest[1].any()):
            return Factors(values[0][None], values[1][None])
        first = np.stack([values[0], -self._scale * rest[0]])
        return Factors(first, np.stack([values[1], rest[1]])).balanced()

    def _bound(self) -> int:
        first, second = self._largest()
        most = [
            int(np.abs(self._remainder(np.arange(largest + 1))).max())
            for largest in (first, second)
        ]
        return first * second + self._scale * most[0] * most[1]


def leading_one(magnitude: IntArray) -> IntArray:
    """The position of the highest set bit; 0 for 0. Exact: these integers are below 2**53.

    >>> leading_one(np.array([0, 1, 5, 128]))
    array([0, 0, 2, 7])
    """
    return np.asarray(np.frexp(np.maximum(magnitude, 1).astype(np.float64))[1] - 1, dtype=np.int64)


def check_whole(name: str, value: Any, low: int, high: int) -> None:
    """Refuse what is not a whole number in ``low..high``.

    >>> check_whole("k", 9, 2, 8)
    Traceback (most recent call last):
    dovetail.errors.DovetailError: k=9; give a whole number from 2 to 8
    """
    if not is_whole(value) or not low <= value <= high:
        raise DovetailError(f"{name}={value!r}; give a whole number from {low} to {high}")
