"""The forms of a multiplier that the native core computes, indexed by the operands' bytes.

``exact`` takes each operand's own signedness; any other multiplier has one for both. Forms hold
for the codes that occur.
"""

from __future__ import annotations

from dataclasses import dataclass
from functools import lru_cache

import numpy as np
import numpy.typing as npt

from dovetail.kernels.realisation import Operands
from dovetail.multipliers import Multiplier
from dovetail.multipliers.classes import Lookups, class_form
from dovetail.multipliers.int8 import Int8Factors, int8_factors
from dovetail.multipliers.operands import IntArray

__all__ = ["Form", "class_bytes", "factor_bytes", "holds", "signs", "table_bytes"]

MAX_RANK = 64  # what the core takes


@dataclass(frozen=True, eq=False)
class Form:
    """``constant[w] + sum_r first[r, a] * second[r, w]``, and lookups as in `ClassForm.sides`."""

    first: IntArray
    second: IntArray
    constant: IntArray
    lookups: tuple[Lookups | None, Lookups | None] = (None, None)

    @property
    def rank(self) -> int:
        """The number of int8 products."""
        return len(self.first)


def signs(mul: Multiplier, operands: Operands) -> tuple[bool, bool]:
    """Whether each operand's bytes are signed."""
    if mul.bits is None:
        return operands.first[0] < 0, operands.second[0] < 0
    return mul.signed, mul.signed


def holds(mul: Multiplier, operands: Operands) -> bool:
    """Whether both operands are bytes on the CPU and the multiplier takes them."""
    if operands.device != "cpu" or (mul.bits is not None and max(mul.bits) > 8):
        return False
    for (low, high), signed in zip(_ends(operands), signs(mul, operands), strict=True):
        if low < (-128 if signed else 0) or high > (127 if signed else 255):
            return False
    return True


def table_bytes(mul: Multiplier, operands: Operands) -> npt.NDArray[np.int32]:
    """All products ``[256, 256]``."""
    if mul.bits is None:
        first, second = _values(mul, operands)
        return np.outer(first, second).astype(np.int32)
    rows, columns = (np.arange(256) & ((1 << bits) - 1) for bits in mul.bits)
    return np.asarray(mul.table().numpy()[rows][:, columns])


@lru_cache(maxsize=256)
def factor_bytes(mul: Multiplier, operands: Operands, most: int) -> Form | None:
    """The multiplier's own factors where they fit; else `int8_factors` up to rank ``most``.

    >>> from dovetail.multipliers import multiplier
    >>> factor_bytes(multiplier("exact"), Operands((0, 255), (-127, 127)), 4).rank
    1
    """
    if mul.bits is None:
        first, second = _values(mul, operands)
        return Form(first[None], second[None], np.zeros(256, dtype=np.int64))
    own = mul.factors()
    if own is not None and own.rank <= MAX_RANK:
        none = np.zeros(own.second.shape[1], dtype=np.int64)
        found = _in_bytes(Int8Factors(own.first, own.second, none), operands)
        if found is not None:
            return found
    narrow = int8_factors(mul, max_rank=min(most, MAX_RANK), skip_lowest=_skips(mul, operands))
    return None if narrow is None else _in_bytes(narrow, operands)


@lru_cache(maxsize=256)
def class_bytes(mul: Multiplier, operands: Operands, most: int) -> Form | None:
    """A product and at most ``most`` lookups, if `class_form` finds that.

    >>> from dovetail.multipliers import multiplier
    >>> form = class_bytes(multiplier("mul8s_1KVA"), Operands((-127, 127), (-127, 127)), 2)
    >>> form.rank, [side.count for side in form.lookups]
    (1, [1, 1])
    """
    if mul.bits is None:
        return None
    found = class_form(mul, most, _skips(mul, operands))
    if found is None:
        return None
    rows, columns = (np.arange(256) & ((1 << bits) - 1) for bits in mul.bits)

    def by_bytes(side: Lookups | None, row: IntArray, lane: IntArray) -> Lookups | None:
        return side and Lookups(
            side.entry[:, row], side.classes[:, lane], side.step, side.constant[columns]
        )

    alone = Int8Factors(found.first[None], found.second[None], np.zeros_like(found.second))
    form = _in_bytes(alone, operands)
    assert form is not None
    lookups = by_bytes(found.by_second, rows, columns), by_bytes(found.by_first, columns, rows)
    return Form(form.first, form.second, form.constant, lookups)


def _ends(operands: Operands) -> tuple[tuple[int, int], tuple[int, int]]:
    return operands.first, operands.second


def _values(mul: Multiplier, operands: Operands) -> list[IntArray]:
    codes = np.arange(256)
    both = signs(mul, operands)
    return [codes.astype(np.int8).astype(np.int64) if signed else codes for signed in both]


def _skips(mul: Multiplier, operands: Operands) -> bool:
    """Whether neither operand takes its lowest code."""
    assert mul.bits is not None
    lowest = [-(1 << (bits - 1)) for bits in mul.bits]
    return mul.signed and operands.first[0] > lowest[0] and operands.second[0] > lowest[1]


def _in_bytes(factors: Int8Factors, operands: Operands) -> Form | None:
    """``factors`` by byte; ``None`` if they do not fit the core on the codes that occur.

    First factors take at most 256 consecutive values; second ones fit int8, or all uint8. The
    multiplier that is always zero gets one term: the core wants at least that.
    """
    sides = []
    for side, (low, high) in zip((factors.first, factors.second), _ends(operands), strict=True):
        if len(side) == 0:
            side = np.zeros((1, side.shape[1]), dtype=np.int64)
        codes = np.arange(low, high + 1)
        used = side[:, codes & (side.shape[1] - 1)]
        wide = np.repeat(used[:, :1], 256, axis=1)  # codes that do not occur widen nothing
        wide[:, codes & 0xFF] = used
        sides.append(wide)
    first, second = sides
    if (first.max(axis=1) - first.min(axis=1)).max() > 255:
        return None
    if second.max() > 255 or second.min() < (0 if second.max() > 127 else -128):
        return None
    return Form(first, second, factors.constant[np.arange(256) & (len(factors.constant) - 1)])
