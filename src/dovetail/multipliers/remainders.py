"""Families whose error is itself a product of one number of each operand: rank 2, at any width."""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np

from dovetail._spelling import spell_call
from dovetail.multipliers.magnitudes import Remainders, check_whole, leading_one
from dovetail.multipliers.operands import Bits, IntArray, as_bits, as_signed, spell_bits

__all__ = ["IterativeLog", "Kulkarni", "RoBA", "iterative_log", "kulkarni", "roba"]


@dataclass(frozen=True, eq=False, repr=False)
class RoBA(Remainders):
    """See `roba`."""

    bits: Bits
    signed: bool

    def __repr__(self) -> str:
        return spell_call("roba", bits=spell_bits(self.bits), signed=self.signed)

    def _remainder(self, magnitude: IntArray) -> IntArray:
        position = leading_one(magnitude)
        up = (2 * magnitude >= 3 << position) & (magnitude != 3)
        rounded = np.int64(1) << (position + up)
        return np.asarray(np.where(magnitude == 0, 0, magnitude - rounded))


def roba(bits: int | Bits = 8, signed: bool = True) -> RoBA:
    """RoBA: both operands rounded to a power of two, ``f = a w' + a' w - a' w'``.

    ``a'`` is the power of two nearest to |a|; a tie goes up, except that 3 becomes 2, and 0 stays.
    So ``f = a w - (a - a')(w - w')``. Signed operands by their magnitudes (the paper's S-RoBA).
    Paper: R. Zendegani, M. Kamal, M. Bahadori, A. Afzali-Kusha, M. Pedram, "RoBA Multiplier: A
    Rounding-Based Approximate Multiplier for High-Speed yet Energy-Efficient Digital Signal
    Processing", IEEE TVLSI 2017.

    >>> roba()([3, 6, -7, 64], [3, 6, 5, 99])
    array([   8,   32,  -36, 6336])
    """
    return RoBA(as_bits(bits, lowest=2), as_signed(signed))


@dataclass(frozen=True, eq=False, repr=False)
class Kulkarni(Remainders):
    """See `kulkarni`."""

    bits: Bits
    signed: bool

    def __repr__(self) -> str:
        return spell_call("kulkarni", bits=spell_bits(self.bits), signed=self.signed)

    @property
    def _scale(self) -> int:
        return 2

    def _remainder(self, magnitude: IntArray) -> IntArray:
        """A one in every base-4 digit that is 3."""
        ones = sum(1 << i for i in range(0, max(self.bits), 2))
        return np.asarray(magnitude & magnitude >> 1 & ones)


def kulkarni(bits: int | Bits = 8, signed: bool = True) -> Kulkarni:
    """Kulkarni's recursive multiplier: 2x2-bit blocks that compute 3 * 3 as 7, exact otherwise.

    The products of base-4 digits are added exactly; odd widths have a zero bit on top. Signed
    operands by their magnitudes. Paper: P. Kulkarni, P. Gupta, M. Ercegovac, "Trading Accuracy for
    Power with an Underdesigned Multiplier Architecture", VLSI Design 2011.

    >>> kulkarni(signed=False)([3, 15, 16], [3, 15, 15])
    array([  7, 175, 240])
    """
    return Kulkarni(as_bits(bits, lowest=2), as_signed(signed))


@dataclass(frozen=True, eq=False, repr=False)
class IterativeLog(Remainders):
    """See `iterative_log`."""

    iterations: int
    bits: Bits
    signed: bool

    def __repr__(self) -> str:
        return spell_call(
            "iterative_log",
            iterations=self.iterations,
            bits=spell_bits(self.bits),
            signed=self.signed,
        )

    def _remainder(self, magnitude: IntArray) -> IntArray:
        rest = magnitude
        for _ in range(self.iterations):
            rest = np.where(rest == 0, 0, rest - (np.int64(1) << leading_one(rest)))
        return np.asarray(rest)

    def _bound(self) -> int:
        """The product grows with both magnitudes, as what is left out grows more slowly."""
        first, second = (np.array(largest) for largest in self._largest())
        return int(self._magnitude(first, second))


def iterative_log(iterations: int = 2, bits: int | Bits = 8, signed: bool = True) -> IterativeLog:
    """The iterative logarithmic multiplier of Babic et al., after ``iterations`` basic blocks.

    A basic block gives ``2**p w + 2**q a - 2**(p+q)`` for the leading ones p, q, which lacks the
    product of the two operands without their leading ones; each further block adds that product
    in the same way. After n blocks ``f = a w - r(a) r(w)``, with r the operand without its n
    highest ones: exact once n reaches the number of ones of either. Signed operands by their
    magnitudes. Paper: Z. Babic, A. Avramovic, P. Bulic, "An Iterative Logarithmic Multiplier",
    Microprocessors and Microsystems 2011.

    >>> iterative_log(iterations=1)([7, 6], [7, 5]), iterative_log(iterations=2)([7, 6], [7, 5])
    (array([40, 28]), array([48, 30]))
    """
    width, signs = as_bits(bits, lowest=2), as_signed(signed)
    check_whole("iterations", iterations, 1, max(width))
    return IterativeLog(iterations, width, signs)
