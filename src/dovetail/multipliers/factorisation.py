"""Finding exact integer factors of a multiplier.

A masked array of partial products factors through its mask, which also holds for 12 and 16 bits,
where no table exists. Any other table is factored through a short basis of the lattice its rows
(or columns) span. Every result over a table is verified over all operand pairs.
"""

from __future__ import annotations

from collections.abc import Callable, Sequence
from typing import TypeAlias

import numpy as np

from dovetail.multipliers.factors import Factors
from dovetail.multipliers.lattice import factor_integers
from dovetail.multipliers.operands import Bits, IntArray, operand_values

__all__ = [
    "MAX_RANK",
    "bit_weights",
    "find_factors",
    "find_mask",
    "mask_factors",
    "mask_matrix",
    "plus_constant",
    "weighted_factors",
]

MAX_RANK = 8

Product: TypeAlias = Callable[[IntArray, IntArray], IntArray]


def bit_weights(bits: int, signed: bool) -> IntArray:
    """The value of each bit; the sign bit's is negative.

    >>> bit_weights(4, True)
    array([ 1,  2,  4, -8])
    """
    weights = np.int64(1) << np.arange(bits, dtype=np.int64)
    if signed:
        weights[-1] *= -1
    return weights


def mask_matrix(mask: int, bits: Bits) -> IntArray:
    """The mask as a 0/1 matrix ``[bits[0], bits[1]]``.

    >>> mask_matrix(0b1110, (2, 2))
    array([[0, 1],
           [1, 1]])
    """
    flat = [mask >> index & 1 for index in range(bits[0] * bits[1])]
    return np.array(flat, dtype=np.int64).reshape(bits)


def mask_factors(mask: int, bits: Bits, signed: bool) -> Factors:
    """Factors of minimal rank of the masked array ``sum_ij m_ij v_i v_j a_i w_j``.

    Equal rows (or columns) of the mask share one term ``value(a & rows) * value(w & columns)``;
    its entries are never wider than the operands. Where fewer terms do, a lattice basis of the
    mask's rows gives them.

    >>> mask_factors(0b1100, (2, 2), signed=False).first
    array([[0, 0, 2, 2]])
    """
    return weighted_factors(mask_matrix(mask, bits), bits, signed)


def weighted_factors(matrix: IntArray, bits: Bits, signed: bool) -> Factors:
    """As `mask_factors`, for partial products counted ``matrix[i, j]`` times each.

    >>> weighted_factors(np.array([[2, 2], [0, 0]]), (2, 2), signed=False).rank
    1
    """
    rows, row_of = _distinct(matrix)
    columns, column_of = _distinct(matrix.T)
    small = factor_integers(matrix, max(bits))
    if small is not None and small[1].shape[0] < min(len(rows), len(columns)):
        left, right = small
    elif len(rows) <= len(columns):
        left, right = row_of, rows
    else:
        left, right = columns.T, column_of.T
    first = _subset_values(left.T, bits[0], signed)
    second = _subset_values(right, bits[1], signed)
    return Factors(first, second)


def plus_constant(factors: Factors, constant: int) -> Factors:
    """The factors with one more term for a constant, its two sides of like size where they can be.

    >>> plus_constant(mask_factors(0, (1, 1), False), 48).first
    array([[4, 4]])
    """
    if constant == 0:
        return factors
    low = (constant & -constant).bit_length() - 1
    share = 1 << min(low, abs(constant).bit_length() // 2 + 1 >> 1)
    sides = (factors.first, share), (factors.second, constant // share)
    return Factors(
        *(np.concatenate([side, np.full((1, side.shape[1]), entry)]) for side, entry in sides)
    )


def find_mask(product: Product, bits: Bits, signed: bool) -> int | None:
    """The mask whose array is ``product`` (on operand values), or None; all pairs are compared.

    >>> find_mask(lambda a, w: (a & ~3) * w, (4, 4), signed=True) == 0xFF00
    True
    """
    values = [operand_values(width, signed) for width in bits]
    ones = [np.int64(1) << np.arange(width, dtype=np.int64) for width in bits]
    first, second = (side[codes] for side, codes in zip(values, ones, strict=True))
    single = product(first[:, None], second[None])
    kept = single != 0
    if (single[kept] != np.outer(first, second)[kept]).any():
        return None
    mask = sum(1 << int(index) for index in np.flatnonzero(kept))
    factors = mask_factors(mask, bits, signed)
    rows = max(1, (1 << 20) >> bits[1])
    for start in range(0, 1 << bits[0], rows):
        part = slice(start, start + rows)
        if not np.array_equal(
            factors.product(part), product(values[0][part, None], values[1][None])
        ):
            return None
    return mask


def find_factors(products: IntArray, signed: bool) -> Factors | None:
    """Exact factors of a product table up to rank 8, or None; verified over all pairs.

    >>> find_factors(np.outer([0, 3, 6, 9], [0, 2, 4, 8]), signed=False).first
    array([[0, 3, 6, 9]])
    """
    bits = (products.shape[0].bit_length() - 1, products.shape[1].bit_length() - 1)
    mask = find_mask(lambda a, w: products[a, w], bits, signed)
    if mask is not None:
        return mask_factors(mask, bits, signed)
    # Three routes to factors of small entries: short rows, short columns, and the exact product
    # plus short rows of the error. The narrowest wins, 8 bits being narrow enough for all kernels.
    values = [operand_values(width, signed)[None] for width in bits]
    candidates = [
        _candidate(products, limit=MAX_RANK),
        _candidate(products, limit=MAX_RANK, by_columns=True),
        _candidate(products - values[0].T * values[1], limit=MAX_RANK - 1, plus=values),
    ]
    found = [factors for factors in candidates if factors is not None]
    best = min(found, key=lambda factors: (max(8, factors.width()), factors.rank), default=None)
    return best if best is not None and np.array_equal(best.product(), products) else None


def _candidate(
    table: IntArray, limit: int, by_columns: bool = False, plus: Sequence[IntArray] = ()
) -> Factors | None:
    """Balanced lattice factors of ``table``, with one more term ``plus`` in front."""
    sides = factor_integers(np.ascontiguousarray(table.T) if by_columns else table, limit)
    if sides is None:
        return None
    first, second = (sides[1], sides[0].T) if by_columns else (sides[0].T, sides[1])
    if plus:
        first, second = np.concatenate([plus[0], first]), np.concatenate([plus[1], second])
    return Factors(first, second).balanced()


def _distinct(matrix: IntArray) -> tuple[IntArray, IntArray]:
    """The distinct non-zero rows, and a 0/1 matrix telling which of them each row is."""
    rows = np.unique(matrix[matrix.any(axis=1)], axis=0)
    return rows, np.array((matrix[:, None, :] == rows[None]).all(axis=2), dtype=np.int64)


def _subset_values(coefficients: IntArray, bits: int, signed: bool) -> IntArray:
    """For each row of ``coefficients [r, bits]``, the weighted sum of bits of every code."""
    codes = np.arange(1 << bits, dtype=np.int64)
    binary = codes[None, :] >> np.arange(bits, dtype=np.int64)[:, None] & 1
    return np.asarray((coefficients * bit_weights(bits, signed)) @ binary)
