"""What structure a table of products has; every statement is checked over all operand pairs."""

from __future__ import annotations

from dataclasses import dataclass
from functools import lru_cache

import numpy as np

from dovetail.multipliers.base import Multiplier
from dovetail.multipliers.factorisation import find_mask
from dovetail.multipliers.int8 import error_classes, int8_factors, without_additive
from dovetail.multipliers.lattice import pivots
from dovetail.multipliers.operands import IntArray, operand_values

__all__ = ["Structure", "TableStructure", "structure_of"]

TABLE_BITS = 16
INT8_RANK = 24


@dataclass(frozen=True)
class TableStructure:
    """What was found over all pairs of a table of at most 8 + 8 bits (or 16 together).

    ``rank``: of the table, modulo the prime 2**31 - 1 (never above the rank over the rationals);
    ``commutative``: f(a, w) = f(w, a), with the value of a code on either side; ``zero_rows`` and
    ``zero_columns``: operands whose products are all 0; ``error``: least and largest error;
    ``residue``: the same after a term of each operand alone was taken away; ``error_rows`` and
    ``error_columns``: how many distinct ones the error then has.
    """

    rank: int
    commutative: bool
    zero_rows: int
    zero_columns: int
    at_zero: int
    error: tuple[int, int]
    residue: tuple[int, int]
    error_rows: int
    error_columns: int


@dataclass(frozen=True)
class Structure:
    """What is known of a multiplier's products, of any width.

    ``factors`` and ``int8``: (rank, signed bits) of the exact factors, and the ranks of those with
    int8 entries over all codes and without the lowest (None: none found); ``unread``: lowest bits
    of either operand that no product depends on; ``mask``: that of the partial-product array it is.
    ``table`` is None for operands of more than 16 bits together.
    """

    factors: tuple[int, int] | None
    int8: tuple[int | None, int | None]
    unread: tuple[int, int] | None
    mask: int | None
    table: TableStructure | None


@lru_cache(maxsize=256)
def structure_of(m: Multiplier) -> Structure:
    """The structure of ``m``'s products; kept by content.

    >>> from dovetail.multipliers import multiplier
    >>> found = structure_of(multiplier("kulkarni(signed=False)"))
    >>> found.factors, found.table.error
    ((2, 9), (-14450, 0))
    """
    factors = m.factors()
    known = None if factors is None else (factors.rank, factors.width())
    mask = getattr(m, "mask", None)
    if not m._tabulable(TABLE_BITS):
        unread = None
        if factors is not None:
            unread = (_unread(factors.first.T), _unread(factors.second.T))
        return Structure(known, (None, None), unread, mask, None)
    table = m._products
    if mask is None:
        mask = find_mask(lambda a, w: table[a, w], m._width(), m.signed)
    ranks = [int8_factors(m, INT8_RANK, skip) for skip in (False, True)]
    return Structure(
        factors=known,
        int8=(
            None if ranks[0] is None else ranks[0].rank,
            None if ranks[1] is None else ranks[1].rank,
        ),
        unread=(_unread(table), _unread(table.T)),
        mask=mask,
        table=_table_structure(m, table),
    )


def _table_structure(m: Multiplier, table: IntArray) -> TableStructure:
    values = [operand_values(bits, m.signed) for bits in m._width()]
    error = table - np.outer(*values)
    residue = without_additive(error)
    found = pivots(np.ascontiguousarray(table), max(table.shape))
    assert found is not None
    return TableStructure(
        rank=len(found[0]),
        commutative=table.shape[0] == table.shape[1] and bool((table == table.T).all()),
        zero_rows=int((~table.any(axis=1)).sum()),
        zero_columns=int((~table.any(axis=0)).sum()),
        at_zero=int(table[0, 0]),
        error=(int(error.min()), int(error.max())),
        residue=(int(residue.min()), int(residue.max())),
        error_rows=len(error_classes(residue.T)[0]),
        error_columns=len(error_classes(residue)[0]),
    )


def _unread(rows: IntArray) -> int:
    """How many of the lowest bits of a row's code make no difference to the row."""
    bits = rows.shape[0].bit_length() - 1
    for count in range(bits, 0, -1):
        groups = rows.reshape(-1, 1 << count, rows.shape[1])
        if (groups == groups[:, :1]).all():
            return count
    return 0
