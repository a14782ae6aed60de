"""ETM, the error-tolerant multiplier: an exact half and a half of ones."""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np

from dovetail._spelling import spell_call
from dovetail.multipliers.magnitudes import OnMagnitudes, check_whole, leading_one
from dovetail.multipliers.operands import Bits, IntArray, as_bits, as_signed, spell_bits

__all__ = ["ETM", "etm"]


@dataclass(frozen=True, eq=False, repr=False)
class ETM(OnMagnitudes):
    """See `etm`."""

    split: int
    bits: Bits
    signed: bool

    def __repr__(self) -> str:
        return spell_call("etm", split=self.split, bits=spell_bits(self.bits), signed=self.signed)

    def _magnitude(self, first: IntArray, second: IntArray) -> IntArray:
        split, ones = self.split, (1 << self.split) - 1
        low = (first | second) & ones
        filled = np.where(low == 0, 0, (np.int64(2) << (leading_one(low) + split)) - 1)
        whole = ((first >> split) * (second >> split) << 2 * split) + filled
        small = (first | second) >> split == 0
        return np.asarray(np.where(small, (first & ones) * (second & ones), whole))

    def _bound(self) -> int:
        first, second = self._largest()
        return (((first >> self.split) * (second >> self.split) + 1) << 2 * self.split) - 1


def etm(split: int | None = None, bits: int | Bits = 8, signed: bool = True) -> ETM:
    """ETM: the upper parts multiplied exactly, the lower ``2 * split`` bits of the product guessed.

    With both operands below ``2**split`` (default: half the narrower one), the lower parts are
    multiplied exactly instead. Else the product is that of the upper parts, and below it bit
    ``split + i`` is one if the lower parts have a one at bit i or above in either operand; the
    bits below ``split`` repeat bit ``split``. Signed operands by their magnitudes. Paper: K. Y.
    Kyaw, W. L. Goh, K. S. Yeo, "Low-Power High-Speed Multiplier for Error-Tolerant Application",
    IEEE EDSSC 2010.

    >>> etm(signed=False)([7, 0x40, 0x42], [9, 0x30, 0x31])
    array([  63, 3072, 3135])
    """
    width, signs = as_bits(bits, lowest=2), as_signed(signed)
    split = min(width) // 2 if split is None else split
    check_whole("split", split, 1, min(width) - 1)
    return ETM(split, width, signs)
