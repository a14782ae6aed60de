"""Arrays of partial products with some of them left out."""

from __future__ import annotations

from dataclasses import dataclass
from functools import cached_property
from typing import Any

import numpy as np

from dovetail._numbers import is_whole
from dovetail._spelling import spell_call
from dovetail.errors import DovetailError
from dovetail.multipliers.base import Multiplier
from dovetail.multipliers.circuits.array import array_circuit
from dovetail.multipliers.circuits.circuit import Circuit
from dovetail.multipliers.factorisation import (
    bit_weights,
    mask_factors,
    mask_matrix,
    plus_constant,
)
from dovetail.multipliers.factors import Factors
from dovetail.multipliers.operands import (
    Bits,
    IntArray,
    as_bits,
    as_signed,
    operand_range,
    spell_bits,
)

__all__ = ["PartialProducts", "array", "extremes"]


@dataclass(frozen=True, eq=False, repr=False)
class PartialProducts(Multiplier):
    """``f(a, w) = c + sum_ij m_ij v_i v_j a_i w_j`` over the bits ``a_i`` and ``w_j``.

    ``v_i`` is ``2**i``, negative for a sign bit, so a product is negative when exactly one of its
    bits is one (Baugh and Wooley 1973). Bit ``i * bits[1] + j`` of ``mask`` keeps the partial
    product of bit i of the first and bit j of the second operand. ``constant``, c, makes up for
    what is left out. ``spelling`` is the text that made it, where a family or the catalogue did.
    """

    mask: int
    bits: Bits
    signed: bool
    spelling: str = ""
    constant: int = 0

    def __repr__(self) -> str:
        return self.spelling or _spell(self)

    def _product(self, first: IntArray, second: IntArray) -> IntArray:
        factors = self._terms
        total = np.zeros(np.broadcast_shapes(first.shape, second.shape), dtype=np.int64)
        a, w = first & (1 << self.bits[0]) - 1, second & (1 << self.bits[1]) - 1
        for left, right in zip(factors.first, factors.second, strict=True):
            total += left[a] * right[w]
        return total

    @cached_property
    def _terms(self) -> Factors:
        return plus_constant(mask_factors(self.mask, self.bits, self.signed), self.constant)

    def _find_factors(self) -> Factors:
        return self._terms

    def _find_max_abs(self) -> int:
        return max(map(abs, self._ends))

    @cached_property
    def _ends(self) -> tuple[int, int]:
        """The least and the largest product."""
        least, most = extremes(mask_matrix(self.mask, self.bits), self.bits, self.signed)
        return least + self.constant, most + self.constant

    def _exact_errors(self) -> dict[str, Any]:
        """The worst error is the dropped array's extreme; the bias needs each bit's mean, 1/2."""
        dropped = 1 - mask_matrix(self.mask, self.bits)
        low, high = extremes(dropped, self.bits, self.signed)
        least, most = self.constant - high, self.constant - low
        rows, columns = (bit_weights(width, self.signed) for width in self.bits)
        known: dict[str, Any] = {
            "wce": max(most, -least),
            "bias": self.constant - float((dropped * np.outer(rows, columns)).sum()) / 4,
        }
        if least >= 0 or most <= 0:
            known["mae"] = abs(known["bias"])
        return known

    @property
    def circuit(self) -> Circuit:
        """The array's gates: see `dovetail.multipliers.circuits.array`."""
        return array_circuit(self.mask, self.bits, self.signed, self.constant)


def array(
    mask: int, bits: int | Bits = 8, signed: bool = True, constant: int = 0
) -> PartialProducts:
    """The multiplier that keeps the partial products whose mask bit is set, plus a constant.

    >>> array(mask=0xFFFFFFFFFFFEFCF8, bits=8, signed=True)(7, 5)
    array(24)
    >>> array(mask=0xFFFFFFFFFFFEFCF8, bits=8, signed=True, constant=4)(7, 5)
    array(28)
    """
    width = as_bits(bits)
    count = width[0] * width[1]
    if not is_whole(mask) or not 0 <= mask < 1 << count:
        shown = hex(mask) if isinstance(mask, int) else repr(mask)
        raise DovetailError(
            f"mask={shown} is not a mask of {width[0]} x {width[1]} partial products; "
            f"give 0 to 0x{(1 << count) - 1:x}, bit i*{width[1]}+j for the product of bits i and j"
        )
    if not isinstance(constant, int) or isinstance(constant, bool):
        raise DovetailError(f"constant={constant!r}; give what is added, a whole number")
    made = PartialProducts(mask, width, as_signed(signed), constant=constant)
    low, high = operand_range(sum(width), made.signed)
    least, most = made._ends
    if constant and not low <= least <= most <= high:
        raise DovetailError(
            f"constant={constant}: products would reach {most if most > high else least}, beyond "
            f"the {sum(width)} bits of a product; give {low - least + constant} to "
            f"{high - most + constant}"
        )
    return made


def _spell(m: PartialProducts) -> str:
    """The canonical spelling, with the mask in hexadecimal."""
    more = {"constant": m.constant} if m.constant else {}
    rest = spell_call("array", bits=spell_bits(m.bits), signed=m.signed, **more)
    return rest.replace("(", f"(mask=0x{m.mask:x}, ", 1)


def extremes(matrix: IntArray, bits: Bits, signed: bool) -> tuple[int, int]:
    """The least and the largest sum of the partial products in ``matrix``.

    For a fixed second operand the best first operand sets exactly the rows that help.
    """
    codes = np.arange(1 << bits[1], dtype=np.int64)
    binary = codes[None, :] >> np.arange(bits[1], dtype=np.int64)[:, None] & 1
    rows = matrix * np.outer(bit_weights(bits[0], signed), bit_weights(bits[1], signed))
    sums = rows @ binary
    least, most = np.minimum(sums, 0).sum(axis=0), np.maximum(sums, 0).sum(axis=0)
    return int(least.min()), int(most.max())
