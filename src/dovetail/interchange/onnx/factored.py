"""A multiplier as tables to look operands up in, whose entries are then multiplied exactly."""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np

from dovetail.arithmetic import Arithmetic
from dovetail.errors import DovetailError
from dovetail.multipliers import Multiplier
from dovetail.multipliers.exact import Exact
from dovetail.multipliers.int8 import int8_factors
from dovetail.multipliers.operands import IntArray

__all__ = ["Terms", "terms_of"]

#: Byte products for one product: beyond, the multiplier's own table is smaller.
MOST = 32


@dataclass(frozen=True, eq=False)
class Terms:
    """``f(a, w) = constant[w] + sum_r first[r, a] * second[r, w]``, or ``table[a, w]``, exactly.

    All are indexed by the operand's value less ``lows``. ``is_plain``: the products are those of
    the operands themselves.
    """

    lows: tuple[int, int]
    first: IntArray
    second: IntArray
    constant: IntArray
    table: IntArray | None = None
    is_plain: bool = False

    @property
    def rank(self) -> int:
        """Products for one product."""
        return len(self.first)

    @property
    def fits_bytes(self) -> bool:
        """Whether ONNX's operators of bytes can multiply the entries."""
        if self.table is not None:
            return False
        return all(_base(side) is not None for side in (self.first, self.second))

    @property
    def bases(self) -> tuple[int, int]:
        """What is added to the entries of both sides to make them unsigned bytes."""
        first, second = _base(self.first), _base(self.second)
        assert first is not None
        assert second is not None
        return first, second

    @property
    def bound(self) -> int:
        """The most that one product's terms add up to in magnitude."""
        if self.table is not None:
            return int(np.abs(self.table).max(initial=0))
        return int((np.abs(self.first).T @ np.abs(self.second)).max(initial=0))


def _base(side: IntArray) -> int | None:
    low, high = int(side.min(initial=0)), int(side.max(initial=0))
    if 0 <= low <= high <= 255:
        return 0
    return 128 if -128 <= low <= high <= 127 else None


def terms_of(arithmetic: Arithmetic, where: str) -> Terms:
    """The cheapest exact form of a layer's multiplier; refused if there is none that is finite.

    >>> from dovetail.formats import format
    >>> int8 = format("int8")
    >>> from dovetail.multipliers import multiplier
    >>> terms_of(Arithmetic(int8, int8, mul=multiplier("mul8s_1KV9")), "fc").rank
    4
    """
    mul, (first, second) = arithmetic.code_multiplier, arithmetic.code_ranges
    values = [np.arange(low, high + 1) for low, high in (first, second)]
    lows = (first[0], second[0])
    zeros = np.zeros(len(values[1]), dtype=np.int64)
    if isinstance(mul, Exact):
        return Terms(lows, values[0][None], values[1][None], zeros, is_plain=True)
    found = _factors(mul, lows)
    if found is not None:
        sides = (values[0] & ((1 << mul._width()[0]) - 1), values[1] & ((1 << mul._width()[1]) - 1))
        a, w, constant = found
        return Terms(lows, a[:, sides[0]], w[:, sides[1]], constant[sides[1]])
    if sum(mul._width()) > 16:
        raise DovetailError(
            f"{where}: mul={mul} has {mul._width()[0]} x {mul._width()[1]} bits and no exact "
            "factors: ONNX takes tables of up to 8 x 8 bits; the nearest that can be written is "
            "'exact'"
        )
    none = np.zeros((0, 1), dtype=np.int64)
    return Terms(lows, none, none, zeros, table=mul(values[0][:, None], values[1][None, :]))


def _factors(mul: Multiplier, lows: tuple[int, int]) -> tuple[IntArray, IntArray, IntArray] | None:
    """Factors by code, and what each code of the second operand adds."""
    widths = mul._width()
    if max(widths) <= 8:
        symmetric = all(low > -(1 << (bits - 1)) for low, bits in zip(lows, widths, strict=True))
        bytes_ = int8_factors(mul, MOST, mul.signed and symmetric)
        return None if bytes_ is None else (bytes_.first, bytes_.second, bytes_.constant)
    if max(widths) > 12:
        return None
    whole = mul.factors()
    if whole is None or whole.rank > MOST:
        return None
    return whole.first, whole.second, np.zeros(whole.second.shape[1], dtype=np.int64)
