"""The exact product, of any width until bound to one."""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np

from dovetail._spelling import spell_call
from dovetail.errors import DovetailError
from dovetail.multipliers.base import Multiplier
from dovetail.multipliers.circuits.array import array_circuit
from dovetail.multipliers.circuits.circuit import Circuit
from dovetail.multipliers.cost import Cost
from dovetail.multipliers.factors import Factors
from dovetail.multipliers.facts import exact_circuit
from dovetail.multipliers.operands import (
    Bits,
    IntArray,
    as_bits,
    as_signed,
    operand_values,
    spell_bits,
)

__all__ = ["Exact", "exact"]


@dataclass(frozen=True, eq=False, repr=False)
class Exact(Multiplier):
    """``f(a, w) = a * w``. With ``bits=None`` any integers; tables then mean 8-bit signed."""

    bits: Bits | None = None
    signed: bool = True

    def __repr__(self) -> str:
        if self.bits is None:
            return "exact"
        return spell_call("exact", bits=spell_bits(self.bits), signed=self.signed)

    def _product(self, first: IntArray, second: IntArray) -> IntArray:
        return np.asarray(first * second)

    def bind(self, bits: int | Bits, signed: bool) -> Multiplier:
        if self.bits is None:
            return Exact(as_bits(bits), as_signed(signed))
        return super().bind(bits, signed)

    def _find_factors(self) -> Factors:
        first, second = (operand_values(width, self.signed)[None] for width in self._width())
        return Factors(first, second)

    def _find_max_abs(self) -> int:
        if self.bits is None:
            raise DovetailError(
                "exact has no largest product until its width is known: exact.bind(bits, signed)"
            )
        first, second = (int(np.abs(operand_values(n, self.signed)).max()) for n in self.bits)
        return first * second

    @property
    def cost(self) -> Cost | None:
        """The catalogue's exact circuit of this width, where it has one, else estimated."""
        measured = exact_circuit(self._width(), self.signed)
        return super().cost if measured is None else measured.cost

    @property
    def circuit(self) -> Circuit:
        """The array of all partial products."""
        bits = self._width()
        return array_circuit((1 << bits[0] * bits[1]) - 1, bits, self.signed)


def exact(bits: int | Bits | None = None, signed: bool = True) -> Exact:
    """The exact multiplier; width-agnostic without ``bits``.

    >>> exact()(1000, -3)
    array(-3000)
    >>> exact(bits=4, signed=False).max_abs
    225
    """
    return Exact(None if bits is None else as_bits(bits), as_signed(signed))
