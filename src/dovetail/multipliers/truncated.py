"""Truncated arrays of partial products, with what makes up for the columns left out."""

from __future__ import annotations

from dataclasses import dataclass
from functools import cached_property

import numpy as np

from dovetail._spelling import spell_call
from dovetail.errors import unknown
from dovetail.multipliers.base import Multiplier
from dovetail.multipliers.circuits.array import weighted_circuit
from dovetail.multipliers.circuits.circuit import Circuit
from dovetail.multipliers.factorisation import bit_weights, plus_constant, weighted_factors
from dovetail.multipliers.factors import Factors
from dovetail.multipliers.magnitudes import TABLE_BITS, check_whole
from dovetail.multipliers.operands import Bits, IntArray, as_bits, as_signed, spell_bits

__all__ = ["COMPENSATIONS", "Truncated", "truncated"]

COMPENSATIONS = ("none", "constant", "variable")


@dataclass(frozen=True, eq=False, repr=False)
class Truncated(Multiplier):
    """See `truncated`."""

    drop_columns: int
    compensation: str
    bits: Bits
    signed: bool

    def __repr__(self) -> str:
        return spell_call(
            "truncated",
            drop_columns=self.drop_columns,
            compensation=self.compensation,
            bits=spell_bits(self.bits),
            signed=self.signed,
        )

    @cached_property
    def _times(self) -> IntArray:
        """How often each partial product is counted: 0, 1, or 2 in the compensating column."""
        column = np.add.outer(*(np.arange(width) for width in self.bits))
        times = (column >= self.drop_columns).astype(np.int64)
        if self.compensation == "variable":
            times[column == self.drop_columns - 1] = 2
        return times

    @cached_property
    def _constant(self) -> int:
        """The mean of the dropped partial products, to a whole unit of the lowest column kept."""
        if self.compensation != "constant":
            return 0
        weights = np.outer(*(bit_weights(width, self.signed) for width in self.bits))
        dropped = int(weights[self._times == 0].sum())  # each is there for one pair in four
        unit = 4 << self.drop_columns
        return (2 * dropped + unit) // (2 * unit) << self.drop_columns

    def _product(self, first: IntArray, second: IntArray) -> IntArray:
        factors = self._factors
        assert factors is not None
        total = np.zeros(np.broadcast_shapes(first.shape, second.shape), dtype=np.int64)
        a, w = first & (1 << self.bits[0]) - 1, second & (1 << self.bits[1]) - 1
        for left, right in zip(factors.first, factors.second, strict=True):
            total += left[a] * right[w]
        return total

    def _find_factors(self) -> Factors:
        factors = weighted_factors(self._times, self.bits, self.signed)
        return plus_constant(factors, self._constant)

    @property
    def circuit(self) -> Circuit:
        """The array's gates: see `dovetail.multipliers.circuits.array`."""
        return weighted_circuit(self._times, self.bits, self.signed, self._constant)

    def _find_max_abs(self) -> int:
        if self._tabulable(TABLE_BITS):
            return super()._find_max_abs()
        weights = np.outer(*(bit_weights(width, self.signed) for width in self.bits))
        parts = self._times * weights
        return int(max(parts[parts > 0].sum(), -parts[parts < 0].sum())) + abs(self._constant)


def truncated(
    drop_columns: int = 6,
    compensation: str = "constant",
    bits: int | Bits = 8,
    signed: bool = True,
) -> Truncated:
    """A partial-product array without its lowest columns, and a compensation for them.

    The partial product of bits i and j is kept when ``i + j >= drop_columns``. ``compensation``:
    ``"none"`` (`broken_array` without rows dropped); ``"constant"`` adds the mean of what is
    dropped, to the nearest multiple of ``2**drop_columns`` [1]; ``"variable"`` adds the partial
    products of the highest dropped column at twice their weight, that is in the lowest kept column
    [2]. Signed arrays keep Baugh-Wooley signs. With ``"constant"``, ``f(0, 0)`` is not 0.

    Papers: [1] M. J. Schulte, E. E. Swartzlander, "Truncated Multiplication with Correction
    Constant", VLSI Signal Processing 1993; [2] E. J. King, E. E. Swartzlander, "Data-Dependent
    Truncation Scheme for Parallel Multipliers", Asilomar 1997.

    >>> truncated(drop_columns=3, compensation="variable", signed=False)([7, 5, 0], [5, 5, 0])
    array([40, 32,  0])
    >>> truncated(drop_columns=6, signed=False)([255, 0], [255, 0])
    array([64768,    64])
    """
    width, signs = as_bits(bits, lowest=2), as_signed(signed)
    check_whole("drop_columns", drop_columns, 0, sum(width) - 1)
    if compensation not in COMPENSATIONS:
        raise unknown("compensation", str(compensation), COMPENSATIONS)
    return Truncated(drop_columns, compensation, width, signs)
