"""Segment families: a small exact core on some bits of each operand.

All are functions of one operand at a time, so of rank 1: a recoding of the operands. Signed members
work on magnitudes (n-bit ones, as -2**(n-1) has no smaller) and put the sign back.
"""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np

from dovetail._spelling import spell_call
from dovetail.errors import DovetailError
from dovetail.multipliers.magnitudes import Reduced, check_whole, leading_one
from dovetail.multipliers.operands import Bits, IntArray, as_bits, as_signed, spell_bits

__all__ = ["Segment", "dsm", "essm", "ssm"]


@dataclass(frozen=True, eq=False, repr=False)
class Segment(Reduced):
    """``m`` bits of each operand from one of ``places`` places; every place for ``places=0``."""

    family: str
    m: int
    bits: Bits
    signed: bool
    places: int

    def __repr__(self) -> str:
        return spell_call(self.family, m=self.m, bits=spell_bits(self.bits), signed=self.signed)

    def _kept(self, magnitude: IntArray, bits: int) -> IntArray:
        shift = np.maximum(leading_one(magnitude) + 1 - self.m, 0)
        if self.places:  # the first place at or above the leading one
            step = max(-(-(bits - self.m) // (self.places - 1)), 1)
            shift = np.minimum(-(-shift // step) * step, max(bits - self.m, 0))
        return np.asarray(magnitude >> shift << shift)


def ssm(m: int = 5, bits: int | Bits = 8, signed: bool = True) -> Segment:
    """SSM: the lower m bits of an operand if they hold all of it, else the upper m bits.

    The two segments are fixed, so the core is followed by one of three shifts. Paper: S.
    Narayanamoorthy, H. A. Moghaddam, Z. Liu, T. Park, N. S. Kim, "Energy-Efficient Approximate
    Multiplication for Digital Signal Processing and Classification Applications", IEEE TVLSI 2015.

    >>> ssm(m=5, signed=False)([31, 33, 200], 1)
    array([ 31,  32, 200])
    """
    return _segment("ssm", m, bits, signed, 2)


def essm(m: int = 4, bits: int | Bits = 8, signed: bool = True) -> Segment:
    """ESSM: as `ssm` with a third segment half way between the two; n - m must be even.

    Paper: S. Narayanamoorthy et al., IEEE TVLSI 2015, that of `ssm`.

    >>> essm(m=4, signed=False)([13, 61, 200], 1)
    array([ 13,  60, 192])
    """
    made = _segment("essm", m, bits, signed, 3)
    if any((width - m) % 2 for width in made.bits if width > m):
        near = m - 1 if m > 2 else m + 1
        raise DovetailError(
            f"essm(m={m}, bits={spell_bits(made.bits)}): bits - m must be even, so that a segment "
            f"lies half way; m={near} does where the widths allow it"
        )
    return made


def dsm(m: int = 4, bits: int | Bits = 8, signed: bool = True) -> Segment:
    """DSM: the m bits from an operand's leading one downwards; the rest is cut.

    DRUM is this with the lowest kept bit set. Paper: S. Narayanamoorthy et al., IEEE TVLSI 2015,
    which compares `ssm` with it.

    >>> dsm(m=3, signed=False)([7, 9, 200], 1)
    array([  7,   8, 192])
    """
    return _segment("dsm", m, bits, signed, 0)


def _segment(family: str, m: int, bits: int | Bits, signed: bool, places: int) -> Segment:
    width, signs = as_bits(bits, lowest=2), as_signed(signed)
    check_whole("m", m, 2, max(width))
    return Segment(family, m, width, signs, places)
