"""Arrays of partial products with some of them left out."""

from __future__ import annotations

from dataclasses import dataclass
from functools import cached_property
from typing import Any

import numpy as np

from dovetail._spelling import spell_call
from dovetail.errors import DovetailError
from dovetail.multipliers.base import Multiplier
from dovetail.multipliers.cost import Cost
from dovetail.multipliers.factorisation import bit_weights, mask_factors, mask_matrix
from dovetail.multipliers.factors import Factors
from dovetail.multipliers.facts import exact_circuit
from dovetail.multipliers.operands import Bits, IntArray, as_bits, as_signed, spell_bits

__all__ = ["PartialProducts", "array"]


@dataclass(frozen=True, eq=False, repr=False)
class PartialProducts(Multiplier):
    """``f(a, w) = sum_ij m_ij v_i v_j a_i w_j`` over the bits ``a_i`` and ``w_j``.

    ``v_i`` is ``2**i``, negative for a sign bit, so a product is negative when exactly one of its
    bits is one (Baugh and Wooley 1973). Bit ``i * bits[1] + j`` of ``mask`` keeps the partial
    product of bit i of the first and bit j of the second operand. ``spelling`` is the text that
    made it, where a family or the catalogue did.
    """

    mask: int
    bits: Bits
    signed: bool
    spelling: str = ""

    def __repr__(self) -> str:
        return self.spelling or spell_array(self.mask, self.bits, self.signed)

    def _product(self, first: IntArray, second: IntArray) -> IntArray:
        factors = self._terms
        total = np.zeros(np.broadcast_shapes(first.shape, second.shape), dtype=np.int64)
        a, w = first & (1 << self.bits[0]) - 1, second & (1 << self.bits[1]) - 1
        for left, right in zip(factors.first, factors.second, strict=True):
            total += left[a] * right[w]
        return total

    @cached_property
    def _terms(self) -> Factors:
        return mask_factors(self.mask, self.bits, self.signed)

    def _find_factors(self) -> Factors:
        return self._terms

    def _find_max_abs(self) -> int:
        least, most = _extremes(mask_matrix(self.mask, self.bits), self.bits, self.signed)
        return max(most, -least)

    def _exact_errors(self) -> dict[str, Any]:
        """The worst error is the dropped array's extreme; the bias needs each bit's mean, 1/2."""
        dropped = 1 - mask_matrix(self.mask, self.bits)
        least, most = _extremes(dropped, self.bits, self.signed)
        rows, columns = (bit_weights(width, self.signed) for width in self.bits)
        known: dict[str, Any] = {
            "wce": max(most, -least),
            "bias": -float((dropped * np.outer(rows, columns)).sum()) / 4,
        }
        if least == 0 or most == 0:
            known["mae"] = abs(known["bias"])
        return known

    @property
    def cost(self) -> Cost | None:
        """Estimated: the exact circuit of this width, times the share of partial products kept."""
        whole = exact_circuit(self.bits, self.signed)
        if whole is None or whole.cost is None:
            return None
        count = self.bits[0] * self.bits[1]
        kept = self.mask.bit_count()
        source = f"estimated: {kept} of {count} partial products of {whole.spelling}"
        return whole.cost.scaled(kept / count, source)


def array(mask: int, bits: int | Bits = 8, signed: bool = True) -> PartialProducts:
    """The multiplier that keeps the partial products whose mask bit is set.

    >>> array(mask=0xFFFFFFFFFFFEFCF8, bits=8, signed=True)(7, 5)
    array(24)
    """
    width = as_bits(bits)
    count = width[0] * width[1]
    if not isinstance(mask, int) or isinstance(mask, bool) or not 0 <= mask < 1 << count:
        shown = hex(mask) if isinstance(mask, int) else repr(mask)
        raise DovetailError(
            f"mask={shown} is not a mask of {width[0]} x {width[1]} partial products; "
            f"give 0 to 0x{(1 << count) - 1:x}, bit i*{width[1]}+j for the product of bits i and j"
        )
    return PartialProducts(mask, width, as_signed(signed))


def spell_array(mask: int, bits: Bits, signed: bool) -> str:
    """The canonical spelling, with the mask in hexadecimal."""
    rest = spell_call("array", bits=spell_bits(bits), signed=signed)
    return rest.replace("(", f"(mask=0x{mask:x}, ", 1)


def _extremes(matrix: IntArray, bits: Bits, signed: bool) -> tuple[int, int]:
    """The least and the largest sum of the partial products in ``matrix``.

    For a fixed second operand the best first operand sets exactly the rows that help.
    """
    codes = np.arange(1 << bits[1], dtype=np.int64)
    binary = codes[None, :] >> np.arange(bits[1], dtype=np.int64)[:, None] & 1
    rows = matrix * np.outer(bit_weights(bits[0], signed), bit_weights(bits[1], signed))
    sums = rows @ binary
    least, most = np.minimum(sums, 0).sum(axis=0), np.maximum(sums, 0).sum(axis=0)
    return int(least.min()), int(most.max())
