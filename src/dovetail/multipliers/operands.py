"""Operand widths: their spelling, their ranges, and the order in which tables are indexed."""

from __future__ import annotations

from typing import Any, TypeAlias

import numpy as np
import numpy.typing as npt
import torch

from dovetail.errors import DovetailError

__all__ = ["Bits", "IntArray", "as_bits", "check_operand", "operand_range", "operand_values"]

IntArray: TypeAlias = npt.NDArray[np.int64]
Bits: TypeAlias = tuple[int, int]

MAX_BITS = 16


def as_bits(bits: Any, *, lowest: int = 1, highest: int = MAX_BITS) -> Bits:
    """One width for both operands, or (first, second), as a checked pair.

    >>> as_bits(8), as_bits((8, 4))
    ((8, 8), (8, 4))
    """
    pair = tuple(bits) if isinstance(bits, (tuple, list)) else (bits, bits)
    fits = len(pair) == 2 and all(
        isinstance(width, (int, np.integer))
        and not isinstance(width, bool)
        and lowest <= width <= highest
        for width in pair
    )
    if not fits:
        raise DovetailError(
            f"bits={bits!r} is not an operand width; give {lowest} to {highest} for both operands, "
            f"or a pair such as bits=(8, 4) for (input, weight)"
        )
    return int(pair[0]), int(pair[1])


def as_signed(signed: Any) -> bool:
    """``signed`` as a bool; anything else is refused, so that `signed="no"` cannot mean True.

    >>> as_signed(1)
    True
    """
    if signed not in (True, False):
        raise DovetailError(f"signed={signed!r}; give True (two's complement) or False (unsigned)")
    return bool(signed)


def spell_bits(bits: Bits) -> int | Bits:
    """The shorter spelling of ``bits``: one number when both operands have the same width.

    >>> spell_bits((8, 8)), spell_bits((8, 4))
    (8, (8, 4))
    """
    return bits[0] if bits[0] == bits[1] else bits


def operand_range(bits: int, signed: bool) -> tuple[int, int]:
    """Lowest and highest operand value.

    >>> operand_range(8, True), operand_range(8, False)
    ((-128, 127), (0, 255))
    """
    return (-(1 << (bits - 1)), (1 << (bits - 1)) - 1) if signed else (0, (1 << bits) - 1)


def operand_values(bits: int, signed: bool) -> IntArray:
    """All operand values, in the order of their codes (two's complement when signed).

    >>> operand_values(2, True)
    array([ 0,  1, -2, -1])
    """
    codes = np.arange(1 << bits, dtype=np.int64)
    if signed:
        codes[codes >= 1 << (bits - 1)] -= 1 << bits
    return codes


def check_operand(value: Any, bits: int | None, signed: bool, which: str) -> IntArray:
    """``value`` as int64, refused unless it is integer and within the operand's range.

    ``bits=None`` checks the type alone.

    >>> check_operand([1, -2], bits=2, signed=True, which="first")
    array([ 1, -2])
    """
    array = value.detach().cpu().numpy() if isinstance(value, torch.Tensor) else np.asarray(value)
    if array.size == 0 and not isinstance(value, (np.ndarray, torch.Tensor)):
        array = array.astype(np.int64)
    if array.dtype.kind not in "iu":
        raise DovetailError(
            f"the {which} operand has dtype {array.dtype}; a multiplier takes integer operand "
            f"values (quantise first, or convert with .astype('int64'))"
        )
    if bits is not None and array.size:
        low, high = operand_range(bits, signed)
        least, most = int(array.min()), int(array.max())
        if least < low or most > high:
            raise DovetailError(
                f"the {which} operand holds {least if least < low else most}, outside "
                f"{low}..{high} of {'a signed' if signed else 'an unsigned'} {bits}-bit operand "
                f"(operands are values, not table indices)"
            )
    return array.astype(np.int64)
