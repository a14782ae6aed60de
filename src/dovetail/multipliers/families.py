"""Published families of approximate multipliers, for any width from 2 to 16 bits.

Signed members of `drum` and `mitchell` work on magnitudes and put the sign back; `truncate` and
`broken_array` drop partial products of the two's-complement array itself.
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any

import numpy as np

from dovetail._spelling import spell_call
from dovetail.multipliers.base import Multiplier
from dovetail.multipliers.factors import Factors
from dovetail.multipliers.magnitudes import check_whole, leading_one
from dovetail.multipliers.operands import (
    Bits,
    IntArray,
    as_bits,
    as_signed,
    operand_range,
    operand_values,
    spell_bits,
)
from dovetail.multipliers.partial_products import PartialProducts

__all__ = ["Drum", "Mitchell", "broken_array", "drum", "mitchell", "truncate"]


def truncate(
    bits: int | Bits = 8, drop_first: int = 0, drop_second: int = 0, signed: bool = True
) -> PartialProducts:
    """Operand truncation: the lowest ``drop_first`` / ``drop_second`` bits read as zero.

    ``f(a, w) = (a & -2**drop_first) * (w & -2**drop_second)``; on two's complement this rounds
    towards minus infinity. As the rows and columns of a partial-product array it is surveyed.
    Paper: H. Jiang et al., "Approximate Arithmetic Circuits: A Survey", Proc. IEEE 2020.

    >>> truncate(bits=8, drop_first=2)([7, -1], 10)
    array([ 40, -40])
    """
    width, signs = as_bits(bits, lowest=2), as_signed(signed)
    check_whole("drop_first", drop_first, 0, width[0])
    check_whole("drop_second", drop_second, 0, width[1])
    return _masked(
        "truncate",
        width,
        signs,
        lambda i, j: i >= drop_first and j >= drop_second,
        drop_first=drop_first,
        drop_second=drop_second,
    )


def broken_array(
    bits: int | Bits = 8, drop_columns: int = 5, drop_rows: int = 0, signed: bool = True
) -> PartialProducts:
    """The broken-array multiplier: cells right of a column and above a row are left out.

    Keeps the partial product of bits i (first) and j (second) when ``i + j >= drop_columns`` (the
    vertical break level) and ``j >= drop_rows`` (the horizontal one). Paper: H. R. Mahdiani et al.,
    "Bio-Inspired Imprecise Computational Blocks for Efficient VLSI Implementation of Soft-Computing
    Applications", IEEE TCAS-I 2010. Signed arrays keep Baugh-Wooley signs.

    >>> broken_array(bits=8, drop_columns=3)(7, 5)
    array(24)
    """
    width, signs = as_bits(bits, lowest=2), as_signed(signed)
    check_whole("drop_columns", drop_columns, 0, sum(width) - 1)
    check_whole("drop_rows", drop_rows, 0, width[1])
    return _masked(
        "broken_array",
        width,
        signs,
        lambda i, j: i + j >= drop_columns and j >= drop_rows,
        drop_columns=drop_columns,
        drop_rows=drop_rows,
    )


@dataclass(frozen=True, eq=False, repr=False)
class Drum(Multiplier):
    """See `drum`."""

    k: int
    bits: Bits
    signed: bool

    def __repr__(self) -> str:
        return spell_call("drum", k=self.k, bits=spell_bits(self.bits), signed=self.signed)

    def _reduced(self, operand: IntArray) -> IntArray:
        """The operand as the k-bit core sees it, shifted back and with its sign."""
        magnitude = np.abs(operand)
        shift = np.maximum(leading_one(magnitude) + 1 - self.k, 0)
        kept = magnitude >> shift
        kept = np.where(shift > 0, kept | 1, kept) << shift
        return np.asarray(np.where(operand < 0, -kept, kept))

    def _product(self, first: IntArray, second: IntArray) -> IntArray:
        return np.asarray(self._reduced(first) * self._reduced(second))

    def _find_factors(self) -> Factors:
        first, second = (self._reduced(operand_values(n, self.signed)) for n in self.bits)
        return Factors(first[None], second[None])

    def _find_max_abs(self) -> int:
        factors = self._find_factors()
        return int(np.abs(factors.first).max()) * int(np.abs(factors.second).max())


def drum(k: int = 6, bits: int | Bits = 8, signed: bool = True) -> Drum:
    """DRUM: a k-bit exact core on the k bits from each operand's leading one.

    With t the position of the leading one of |a|: below ``t < k`` the operand is kept; otherwise
    the k bits from t downwards are kept and the lowest of them is set to 1, the unbiased estimate
    of what was cut. Paper: S. Hashemi, R. I. Bahar, S. Reda, "DRUM: A Dynamic Range Unbiased
    Multiplier for Approximate Applications", ICCAD 2015.

    >>> drum(k=3, bits=8)([100, -100, 5], 1)
    array([ 112, -112,    5])
    """
    width, signs = as_bits(bits, lowest=2), as_signed(signed)
    check_whole("k", k, 2, max(width))
    return Drum(k, width, signs)


@dataclass(frozen=True, eq=False, repr=False)
class Mitchell(Multiplier):
    """See `mitchell`."""

    bits: Bits
    signed: bool

    def __repr__(self) -> str:
        return spell_call("mitchell", bits=spell_bits(self.bits), signed=self.signed)

    def _product(self, first: IntArray, second: IntArray) -> IntArray:
        a, w = np.abs(first), np.abs(second)
        p, q = leading_one(a), leading_one(w)
        one = np.int64(1) << (p + q)
        fractions = ((a - (np.int64(1) << p)) << q) + ((w - (np.int64(1) << q)) << p)
        product = np.where(fractions < one, one + fractions, 2 * fractions)
        return np.asarray(np.where((a == 0) | (w == 0), 0, np.sign(first * second) * product))

    def _find_max_abs(self) -> int:
        """The product grows with both magnitudes, so the largest magnitudes give it."""
        low, high = zip(*(operand_range(n, self.signed) for n in self.bits), strict=True)
        ends = np.array([low, high], dtype=np.int64)
        return int(np.abs(self._product(ends[:, :1], ends[None, :, 1])).max())


def mitchell(bits: int | Bits = 8, signed: bool = True) -> Mitchell:
    """Mitchell's logarithmic multiplier: add approximate logarithms, take the approximate power.

    With ``|a| = 2**p * (1 + x)`` and ``|w| = 2**q * (1 + y)``, ``0 <= x, y < 1``, the product is
    ``2**(p+q) * (1 + x + y)`` if ``x + y < 1``, else ``2**(p+q+1) * (x + y)``: always an integer.
    A zero operand gives zero. Paper: J. N. Mitchell, "Computer Multiplication and Division Using
    Binary Logarithms", IRE Trans. Electronic Computers 1962.

    >>> mitchell(bits=8)([3, -3, 4, 0], [3, 3, 5, 7])
    array([ 8, -8, 20,  0])
    """
    return Mitchell(as_bits(bits, lowest=2), as_signed(signed))


def _masked(name: str, bits: Bits, signed: bool, keeps: Any, **levels: int) -> PartialProducts:
    mask = sum(
        1 << (i * bits[1] + j) for i in range(bits[0]) for j in range(bits[1]) if keeps(i, j)
    )
    spelling = spell_call(name, bits=spell_bits(bits), **levels, signed=signed)
    return PartialProducts(mask, bits, signed, spelling)
