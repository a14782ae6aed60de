"""Corrections of Mitchell's logarithmic multiplier.

Operands are read as ``2**p * (1 + x)``, with p the leading one and ``0 <= x < 1``; a zero operand
gives zero. Signed members work on magnitudes and put the sign back.
"""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np

from dovetail._spelling import spell_call
from dovetail.errors import unknown
from dovetail.multipliers.magnitudes import OnMagnitudes, check_whole, leading_one
from dovetail.multipliers.operands import Bits, IntArray, as_bits, as_signed, spell_bits

__all__ = ["ALM", "MBM", "LMul", "alm", "l_mul", "mbm"]


@dataclass(frozen=True, eq=False, repr=False)
class MBM(OnMagnitudes):
    """See `mbm`."""

    bits: Bits
    signed: bool

    def __repr__(self) -> str:
        return spell_call("mbm", bits=spell_bits(self.bits), signed=self.signed)

    def _magnitude(self, first: IntArray, second: IntArray) -> IntArray:
        p, q = leading_one(first), leading_one(second)
        one = np.int64(1) << (p + q)
        fractions = ((first - (np.int64(1) << p)) << q) + ((second - (np.int64(1) << q)) << p)
        product = np.where(fractions < one, one + fractions, 2 * fractions) + (5 * one >> 6)
        return np.asarray(np.where((first == 0) | (second == 0), 0, product))

    def _bound(self) -> int:
        """Mitchell's product and the correction both grow with both magnitudes."""
        first, second = (np.array(largest) for largest in self._largest())
        return int(self._magnitude(first, second))


def mbm(bits: int | Bits = 8, signed: bool = True) -> MBM:
    """MBM: Mitchell's product plus its mean error, ``2**(p+q) * 5/64`` rounded down.

    Mitchell's product lacks ``2**(p+q) / 12`` on average over x and y; 5/64 is 1/12 in six
    fraction bits. The fractions are not truncated (the paper's k = 0). Paper: H. Saadat, H.
    Bokhari, S. Parameswaran, "Minimally Biased Multipliers for Approximate Integer and
    Floating-Point Multiplication", IEEE TCAD 2018.

    >>> mbm()([64, 3, -96, 0], [64, 3, 96, 5])
    array([ 4416,     8, -8512,     0])
    """
    return MBM(as_bits(bits, lowest=2), as_signed(signed))


@dataclass(frozen=True, eq=False, repr=False)
class ALM(OnMagnitudes):
    """See `alm`."""

    adder: str
    m: int
    bits: Bits
    signed: bool

    def __repr__(self) -> str:
        return spell_call(
            "alm", adder=self.adder, m=self.m, bits=spell_bits(self.bits), signed=self.signed
        )

    def _magnitude(self, first: IntArray, second: IntArray) -> IntArray:
        fraction = max(self.bits) - 1
        left, right = _logarithm(first, fraction), _logarithm(second, fraction)
        product = _power(_lower_part_add(left, right, self.adder, self.m), fraction)
        return np.asarray(np.where((first == 0) | (second == 0), 0, product))

    def _bound(self) -> int:
        """Neither adder exceeds the sum by as much as ``2**m``."""
        fraction = max(self.bits) - 1
        first, second = (_logarithm(np.array(largest), fraction) for largest in self._largest())
        return int(_power(first + second + (1 << self.m), fraction))


def _logarithm(magnitude: IntArray, fraction: int) -> IntArray:
    """``p + x`` in units of ``2**-fraction``: with max(bits) - 1 of them, exact."""
    p = leading_one(magnitude)
    x = (magnitude - (np.int64(1) << p)) << (fraction - p)
    return np.asarray((p << fraction) + x)


def _power(logarithm: IntArray, fraction: int) -> IntArray:
    """``2**p * (1 + x)``, rounded down."""
    p, ones = logarithm >> fraction, np.int64(1) << fraction
    return np.asarray((ones + logarithm % ones) << p >> fraction)


def _lower_part_add(left: IntArray, right: IntArray, adder: str, m: int) -> IntArray:
    """The sum with its m lowest bits ORed (loa) or set to one (soa)."""
    ones = np.int64((1 << m) - 1)
    carry = (left & right) >> max(m - 1, 0) & (m > 0)
    low = (left | right) & ones if adder == "loa" else ones
    return np.asarray((((left >> m) + (right >> m) + carry) << m) + low)


def alm(adder: str = "soa", m: int = 3, bits: int | Bits = 8, signed: bool = True) -> ALM:
    """ALM: Mitchell's multiplier whose logarithms are added by an approximate adder.

    Logarithms have n - 1 fraction bits (n: the wider operand). ``adder="soa"`` sets the m lowest
    bits of the sum to one, ``"loa"`` makes them the OR of the operands' bits; either way the carry
    into the bits above is the AND of the operands' bits m - 1. The power is rounded down. Paper: W.
    Liu, J. Xu, D. Wang, C. Wang, P. Montuschi, F. Lombardi, "Design and Evaluation of Approximate
    Logarithmic Multipliers for Low Power Error-Tolerant Applications", IEEE TCAS-I 2018.

    >>> alm(m=0)(100, 100), alm(adder="loa", m=3)(100, 100), alm(m=5)(3, -3)
    (array(9216), array(9216), array(-9))
    """
    if adder not in ("soa", "loa"):
        raise unknown("adder of alm", str(adder), ["soa", "loa"])
    width, signs = as_bits(bits, lowest=2), as_signed(signed)
    check_whole("m", m, 0, max(width) - 1)
    return ALM(adder, m, width, signs)


@dataclass(frozen=True, eq=False, repr=False)
class LMul(OnMagnitudes):
    """See `l_mul`."""

    offset: int
    bits: Bits
    signed: bool

    def __repr__(self) -> str:
        return spell_call(
            "l_mul", offset=self.offset, bits=spell_bits(self.bits), signed=self.signed
        )

    def _magnitude(self, first: IntArray, second: IntArray) -> IntArray:
        fraction = max(self.bits) - 1
        total = _logarithm(first, fraction) + _logarithm(second, fraction)
        product = _power(total + (1 << fraction - self.offset), fraction)
        return np.asarray(np.where((first == 0) | (second == 0), 0, product))

    def _bound(self) -> int:
        """The product grows with both magnitudes."""
        first, second = (np.array(largest) for largest in self._largest())
        return int(self._magnitude(first, second))


def l_mul(offset: int | None = None, bits: int | Bits = 8, signed: bool = True) -> LMul:
    """L-Mul: the logarithms ``p + x`` are added as in Mitchell's, and ``2**-offset`` with them.

    Made for floating-point numbers, ``multiplier("l_mul", format="bf16")``: their bit patterns are
    such logarithms, so a product is one integer addition of patterns, whose carry runs from the
    fraction into the exponent. By default, for m fraction bits (a format's mantissa; of integers,
    one less than the wider operand has), ``offset = m`` up to m = 3, then 3 for m = 4 and 4 above.
    Paper: H. Luo, W. Sun, "Addition is All You Need for Energy-efficient Language Models", arXiv
    2410.00907 (2024); its formula ``1 + x + y + 2**-offset`` leaves the carry out, which its
    program has.

    >>> l_mul(bits=8, signed=False)([128, 192, 255, 0], [128, 192, 255, 7])
    array([17408, 34816, 68608,     0])
    """
    width, signs = as_bits(bits, lowest=2), as_signed(signed)
    fraction = max(width) - 1
    if offset is None:
        offset = fraction if fraction <= 3 else 3 if fraction == 4 else 4
    check_whole("offset", offset, 1, fraction)
    return LMul(offset, width, signs)
