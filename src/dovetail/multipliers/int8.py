"""Exact factors whose every entry is a byte, for tables that factor in wider integers or not.

A table is taken as a sum of terms ``g(a) * h(w)`` found in one of several ways: the multiplier's
own factors, a short lattice basis of the table or of its error, or one 0/1 indicator for each class
of equal error columns (or rows). What remains is a term of the first operand alone and one of the
second alone; the latter, a constant per weight, is free. A term that is too wide is centred, which
moves a multiple of either side into those two, or split into digits; the way of least rank wins,
and is verified over all pairs.
"""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass
from functools import lru_cache
from itertools import product
from typing import TypeAlias

import numpy as np

from dovetail.multipliers.base import Multiplier
from dovetail.multipliers.factors import Factors
from dovetail.multipliers.lattice import factor_integers, pivots
from dovetail.multipliers.operands import IntArray, operand_values

__all__ = ["Int8Factors", "error_classes", "int8_factors", "without_additive"]

#: LLL in exact arithmetic takes 0.1 s at this rank, and grows with its fourth power.
LATTICE_RANK = 14

Terms: TypeAlias = list[tuple[IntArray, IntArray]]
Bounds: TypeAlias = tuple[int, int]
_STEPS = [s * sign for s in range(1, 256) for sign in (1, -1)]
_INT8: Bounds = (-128, 127)
_UINT8: Bounds = (0, 255)


@dataclass(frozen=True, eq=False)
class Int8Factors:
    """``f(a, w) = constant[code(w)] + sum_r first[r, code(a)] * second[r, code(w)]``, exactly.

    ``first`` fits int8; ``second`` fits int8, or all of it uint8. Indexed as `Factors` are.
    """

    first: IntArray
    second: IntArray
    constant: IntArray

    @property
    def rank(self) -> int:
        """The number of terms."""
        return len(self.first)

    def product(self) -> IntArray:
        """The product table these factors stand for."""
        return np.asarray(self.first.T @ self.second + self.constant)


@lru_cache(maxsize=256)
def int8_factors(m: Multiplier, max_rank: int, skip_lowest: bool = False) -> Int8Factors | None:
    """Factors of ``m`` with one byte per entry and rank at most ``max_rank``, or None.

    For operands of at most 8 bits. With ``skip_lowest`` (signed operands) the code of the lowest
    value of both operands is left out: its entries are 0, and products with it do not hold. All
    other pairs were compared. The rank is the least that the ways above find, not a proven minimum.

    >>> from dovetail.multipliers import multiplier
    >>> int8_factors(multiplier("exact(bits=8, signed=False)"), max_rank=8).rank
    1
    >>> int8_factors(multiplier("mitchell"), max_rank=8) is None
    True
    """
    widths = m._width()
    if max(widths) > 8:
        return None
    skip = skip_lowest and m.signed
    kept = [np.arange(1 << bits) for bits in widths]
    if skip:
        kept = [np.delete(codes, codes.size // 2) for codes in kept]
    values = [operand_values(n, m.signed)[codes] for n, codes in zip(widths, kept, strict=True)]
    table = m._products[np.ix_(*kept)]
    best: Terms | None = None
    for terms in _ways(m, table, values, kept, max_rank):
        for centred, bounds in product((False, True), (_INT8, _UINT8)):
            limit = max_rank if best is None else len(best) - 1
            found = _in_bytes(table, terms, limit, centred, bounds)
            best = best if found is None else found
    if best is None:
        return None
    sides = []
    for side, codes, bits in zip((0, 1), kept, widths, strict=True):
        whole = np.zeros((len(best), 1 << bits), dtype=np.int64)
        for r, term in enumerate(best):
            whole[r, codes] = term[side]
        sides.append(whole)
    constant = np.zeros(1 << widths[1], dtype=np.int64)
    constant[kept[1]] = (table - _sum(best, table))[0]
    factors = Int8Factors(sides[0], sides[1], constant)
    exact = np.array_equal(factors.product()[np.ix_(*kept)], table)
    second = any(_fits(factors.second, bounds) for bounds in (_INT8, _UINT8))
    return factors if exact and second and _fits(factors.first, _INT8) else None


def without_additive(table: IntArray, row: int = 0, column: int = 0) -> IntArray:
    """``table`` less a term of each operand alone, so that one row and one column are zero.

    >>> without_additive(np.array([[1, 2], [3, 9]]))
    array([[0, 0],
           [0, 5]])
    """
    return np.asarray(table - table[row] - table[:, column, None] + table[row, column])


def error_classes(error: IntArray) -> tuple[IntArray, IntArray]:
    """The distinct columns of ``error`` as rows, and the class of each column; most frequent first.

    >>> error_classes(np.array([[1, 2, 2], [0, 5, 5]]))[1]
    array([1, 0, 0])
    """
    columns = np.ascontiguousarray(error.T)
    keys = columns.view([("", columns.dtype)] * columns.shape[1]).ravel()
    _, first, label, count = np.unique(
        keys, return_index=True, return_inverse=True, return_counts=True
    )
    order = np.argsort(-count, kind="stable")
    place = np.empty_like(order)
    place[order] = np.arange(order.size)
    return columns[first[order]], place[label.ravel()]


def _ways(
    m: Multiplier, table: IntArray, values: list[IntArray], kept: list[IntArray], limit: int
) -> Iterator[Terms]:
    """Terms that add up to the table but for a term of each operand alone, cheapest first."""
    own = m.factors()
    if own is not None:
        own = own.balanced()
        yield list(zip(own.first[:, kept[0]], own.second[:, kept[1]], strict=True))
        if own.fits(8):
            return
    operands = (values[0], values[1])
    error = table - np.outer(*operands)
    rest = without_additive(error)
    most = min(limit, LATTICE_RANK)
    ways: list[tuple[int, IntArray, Terms]] = []
    for matrix, front in ((table, []), (without_additive(table), []), (rest, [operands])):
        found = pivots(np.ascontiguousarray(matrix), most - len(front))
        if found is not None:
            ways.append((len(found[0]) + len(front), matrix, front))
    for _, matrix, front in sorted(ways, key=lambda way: way[0])[:2]:
        for turned in (False, True):
            sides = factor_integers(np.ascontiguousarray(matrix.T if turned else matrix), most)
            if sides is not None:
                first, second = (sides[1], sides[0].T) if turned else (sides[0].T, sides[1])
                pair = Factors(first, second).balanced()
                yield [*front, *zip(pair.first, pair.second, strict=True)]
    for turned in (False, True):
        classes, label = error_classes(rest.T if turned else rest)
        if len(classes) > limit:
            continue
        marks = (label == np.arange(len(classes))[:, None]).astype(np.int64)
        # Less the most frequent class, which then costs no term, or less the middle of all: narrow.
        middle = (classes.min(axis=0) + classes.max(axis=0)) // 2
        for shift, start in ((classes[0], 1), (middle, 0)):
            pairs = zip(classes[start:] - shift, marks[start:], strict=True)
            yield [operands, *((y, x) if turned else (x, y) for x, y in pairs)]


def _sum(terms: Terms, table: IntArray) -> IntArray:
    return np.asarray(sum((np.outer(g, h) for g, h in terms), np.zeros_like(table)))


def _in_bytes(
    table: IntArray, terms: Terms, limit: int, centred: bool, bounds: Bounds
) -> Terms | None:
    """The terms within bytes, with those of the first operand alone that the table needs besides.

    The second operand's bytes lie within ``bounds``.
    """
    out: Terms = []
    for first, second in terms:
        out += _split(first, second, centred, bounds)
        if len(out) > limit:
            return None
    rest = table - _sum(out, table)
    ours = rest[:, 0] - rest[0, 0]
    if not np.array_equal(ours[:, None] + rest[0], rest):
        return None
    out += _additive(ours, table.shape[1], bounds)
    inside = all(_fits(first, _INT8) and _fits(second, bounds) for first, second in out)
    return out if inside and len(out) <= limit else None


def _split(first: IntArray, second: IntArray, centred: bool, bounds: Bounds) -> Terms:
    """``first * second`` as terms of bytes, up to a term of each operand alone.

    A side of at most 256 consecutive values is moved into its range. A wider one, centred or not,
    becomes ``digit + step * quotient`` with a step that the other side can be multiplied by.
    """
    first, second = _moved(first, centred, _INT8), _moved(second, centred, bounds)
    if _fits(second, bounds):
        return [(digits, second * step) for digits, step in _digits(first, second, bounds)]
    ends = np.array(_INT8)  # what leaves no step but 1
    whole = _fits(first, _INT8)
    parts = [first] if whole else [digits for digits, _ in _digits(first, ends, _INT8)]
    return [(p * step, digits) for p in parts for digits, step in _digits(second, p, _INT8)]


def _fits(side: IntArray, bounds: Bounds) -> bool:
    return side.size == 0 or bool(side.min() >= bounds[0] and side.max() <= bounds[1])


def _moved(side: IntArray, centred: bool, bounds: Bounds) -> IntArray:
    """``side`` if it fits the bounds, else less the constant that moves its middle to theirs."""
    low, high = int(side.min()), int(side.max())
    if _fits(side, bounds) or (high - low > 255 and not centred):
        return side
    return np.asarray(side - (low + high + 1) // 2 + (sum(bounds) + 1) // 2)


def _digits(wide: IntArray, other: IntArray, bounds: Bounds) -> list[tuple[IntArray, int]]:
    """``wide = sum_i digits_i * step_i``, each ``other * step_i`` in bounds; as few as possible.

    All terms but one have the same step, whose multiples get as close to ``wide`` as one digit.
    """
    if not wide.any() or not other.any():
        return []
    if _fits(wide, _INT8):
        return [(wide, 1)]
    low, high = int(other.min()), int(other.max())
    inside = [s for s in _STEPS if all(bounds[0] <= x * s <= bounds[1] for x in (low, high))]
    steps = np.array(inside)
    quotients = np.round(wide / steps[:, None]).astype(np.int64)
    exact = (quotients * steps[:, None] == wide).all(axis=1)
    pieces = np.maximum(-(-quotients.max(axis=1) // 127), -(quotients.min(axis=1) // 128))
    best = int(np.argmin(pieces + ~exact))
    quotient, step = quotients[best], int(steps[best])
    digit = wide - quotient * step
    out = [(digit, 1)] if digit.any() else []
    for left in range(int(pieces[best]), 0, -1):
        part = quotient // left
        out.append((part, step))
        quotient = quotient - part
    return out


def _additive(ours: IntArray, columns: int, bounds: Bounds) -> Terms:
    """``ours(a)`` as terms of bytes, up to a constant."""
    one = np.ones(1, dtype=np.int64)
    plans = [_digits(ours - c, one, bounds) for c in _centres(ours)]
    ones = np.ones(columns, dtype=np.int64)
    return [(digits, ones * step) for digits, step in min(plans, key=len)]


def _centres(side: IntArray) -> list[int]:
    """Constants near the middle of ``side``, congruent to it modulo its differences' divisor."""
    divisor = int(np.gcd.reduce(side - side[0])) or 1
    middle = (int(side.min()) + int(side.max()) + 1) // 2
    near = int(side[0]) + (middle - int(side[0])) // divisor * divisor
    return [near, near + divisor] if divisor > 1 else [middle]
