"""What the products of significands are made of: what decides how layers compute them."""

from __future__ import annotations

from dataclasses import dataclass
from functools import cached_property, lru_cache

import numpy as np
import numpy.typing as npt

from dovetail.multipliers.floating import FloatMultiplier

__all__ = ["MAX_TABLE_MANTISSA", "FloatStructure", "structure_of"]

IntArray = npt.NDArray[np.int64]

#: Mantissa bits up to which all products of significands are listed.
MAX_TABLE_MANTISSA = 10


@dataclass(frozen=True, eq=False)
class FloatStructure:
    """The structure of a floating-point multiplier, checked over all pairs of significands.

    ``form``: ``values`` (products ``first[x] * second[y]`` of integers), ``logarithms`` (the sum of
    the fractions and ``offset``, whose carry runs into the exponent), ``table`` (neither), or
    ``function`` (more than 2**20 pairs: nothing is known). x and y are fractions, in units of
    2**-m, products in units of 2**-2m; ``largest`` is the largest of them.
    """

    form: str
    mantissa: int
    largest: int
    table: IntArray | None = None
    offset: int | None = None
    factors: tuple[IntArray, IntArray] | None = None

    @cached_property
    def extended(self) -> npt.NDArray[np.float64]:
        """The table ``[1 + 2**m, 1 + 2**m]`` by ``1 + x`` and ``1 + y``. The first row and column
        are 1, for operands without a significand (zeros, infinities, NaN) multiply as they are."""
        assert self.table is not None
        whole = np.pad(self.table.astype(np.float64), (1, 0), constant_values=1.0)
        whole.setflags(write=False)
        return whole


@lru_cache(maxsize=64)
def structure_of(mul: FloatMultiplier) -> FloatStructure:
    """The structure of ``mul``.

    >>> from dovetail.multipliers import multiplier
    >>> found = structure_of(multiplier("drum(k=3)", format="fp8_e4m3fn"))
    >>> found.form, found.factors[0]
    ('values', array([5, 5, 5, 5, 7, 7, 7, 7]))
    """
    m = mul.format.mantissa
    if m > MAX_TABLE_MANTISSA:
        return FloatStructure("function", m, mul.mantissa.max_abs)
    x = np.arange(1 << m, dtype=np.int64)
    table = np.asarray(mul.products(x[:, None], x[None]), dtype=np.int64)
    table.setflags(write=False)
    largest = int(table.max())
    factors = _factors(table) if largest < 1 << 31 else None
    if factors is not None:
        return FloatStructure("values", m, largest, table, factors=factors)
    offset = (int(table[0, 0]) >> m) - (1 << m)
    if 0 <= offset < 1 << m and np.array_equal(table, _sums(x, m, offset)):
        return FloatStructure("logarithms", m, largest, table, offset)
    return FloatStructure("table", m, largest, table)


def _sums(x: IntArray, m: int, offset: int) -> IntArray:
    total = x[:, None] + x[None] + offset
    return np.asarray(((total & ((1 << m) - 1)) + (1 << m)) << m + (total >> m))


def _factors(table: IntArray) -> tuple[IntArray, IntArray] | None:
    """``first[x] * second[y]`` for all x and y, ``first`` without a common divisor."""
    column = int(np.argmax(table.max(axis=0)))
    divisor = int(np.gcd.reduce(table[:, column]))
    if divisor == 0:
        return None
    first = table[:, column] // divisor
    row = int(np.argmax(first))
    second = table[row] // first[row]
    return (first, second) if np.array_equal(first[:, None] * second[None], table) else None
