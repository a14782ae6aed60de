"""Exact integer factors of a product table: what turns a table into a few ordinary products."""

from __future__ import annotations

import math
from dataclasses import dataclass

import numpy as np

from dovetail.multipliers.operands import IntArray

__all__ = ["Factors"]


@dataclass(frozen=True, eq=False, repr=False)
class Factors:
    """``f(a, w) = sum_r first[r, code(a)] * second[r, code(w)]``, exactly.

    ``first`` is int64 ``[rank, 2**bits_first]`` and ``second`` int64 ``[rank, 2**bits_second]``,
    both indexed by the operand's code as `Multiplier.table` is, both read-only.
    """

    first: IntArray
    second: IntArray

    def __post_init__(self) -> None:
        for name in ("first", "second"):
            side = getattr(self, name).view()
            side.setflags(write=False)
            object.__setattr__(self, name, side)

    def __repr__(self) -> str:
        return f"Factors(rank={self.rank}, bits={self.width()})"

    @property
    def rank(self) -> int:
        """The number of terms; 0 for the multiplier that always gives 0."""
        return len(self.first)

    def width(self, skip_lowest: bool = False) -> int:
        """The number of signed bits that hold every entry of both sides.

        ``skip_lowest`` leaves out the code of the lowest value (-128 of an 8-bit signed operand),
        for operands that a symmetric format keeps from ever taking it.

        >>> from dovetail.multipliers import multiplier
        >>> drum = multiplier("drum(k=6, bits=8)").factors()
        >>> drum.width(), drum.width(skip_lowest=True)
        (9, 8)
        """
        bits = 1
        for side in (self.first, self.second):
            kept = np.delete(side, side.shape[1] // 2, axis=1) if skip_lowest else side
            if kept.size:
                low, high = int(kept.min()), int(kept.max())
                bits = max(bits, max(high, -low - 1, 0).bit_length() + 1)
        return bits

    def fits(self, bits: int, skip_lowest: bool = False) -> bool:
        """Whether every entry is a signed ``bits``-bit number; see `width`.

        >>> from dovetail.multipliers import multiplier
        >>> multiplier("mul8s_1KVA").factors().fits(8)
        True
        """
        return self.width(skip_lowest) <= bits

    def product(self, rows: slice = slice(None)) -> IntArray:
        """The product table these factors stand for, or some of its rows.

        >>> from dovetail.multipliers import multiplier
        >>> m = multiplier("mul8s_1KVA")
        >>> bool((m.factors().product() == m.table().numpy()).all())
        True
        """
        return np.asarray(self.first[:, rows].T @ self.second)

    def balanced(self) -> Factors:
        """The same terms, each with its common divisor and sign shared out for least width."""
        first, second = self.first.copy(), self.second.copy()
        for r in range(self.rank):
            ours, theirs = (int(np.gcd.reduce(side[r])) for side in (first, second))
            if ours == 0 or theirs == 0:
                continue
            first[r] //= ours
            second[r] //= theirs
            common = ours * theirs
            left, right = int(np.abs(first[r]).max()), int(np.abs(second[r]).max())
            shares = {d * e for d in _divisors(ours) for e in _divisors(theirs)}
            share = min((max(left * d, right * (common // d)), d) for d in shares)[1]
            first[r] *= share
            second[r] *= common // share
            term = Factors(first[r : r + 1], second[r : r + 1])
            if Factors(-term.first, -term.second).width() < term.width():
                first[r], second[r] = -first[r], -second[r]
        return Factors(first, second)


def _divisors(number: int) -> list[int]:
    small = [d for d in range(1, math.isqrt(number) + 1) if number % d == 0]
    return small + [number // d for d in small]
