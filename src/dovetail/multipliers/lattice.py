"""Exact integer linear algebra on small matrices: pivots, lattice bases, LLL reduction.

Numbers are Python integers where they can grow. Sizes are small: ranks up to 16, at most a few
hundred rows.
"""

from __future__ import annotations

from fractions import Fraction

import numpy as np
import numpy.typing as npt

from dovetail.multipliers.operands import IntArray

__all__ = ["factor_integers", "pivots", "reduce_basis", "row_lattice"]

Matrix = list[list[int]]

_PRIME = (1 << 31) - 1


def pivots(matrix: IntArray, limit: int) -> tuple[list[int], list[int]] | None:
    """Rows and columns of a largest invertible part of ``matrix``, or None above rank ``limit``.

    Elimination runs modulo a 31-bit prime, so the rank can only come out too small, and only when
    the prime divides a minor: whoever uses the pivots must verify the result.

    >>> pivots(np.array([[0, 0, 0], [0, 2, 4], [1, 1, 2]]), limit=2)
    ([1, 2], [1, 0])
    """
    rest = matrix % _PRIME
    rows: list[int] = []
    columns: list[int] = []
    while True:
        row = int(rest.any(axis=1).argmax())
        if not rest[row].any():
            return rows, columns
        if len(rows) == limit:
            return None
        column = int((rest[row] != 0).argmax())
        rows.append(row)
        columns.append(column)
        inverse = pow(int(rest[row, column]), -1, _PRIME)
        pivot = rest[row] * inverse % _PRIME
        touched = np.flatnonzero(rest[:, column])
        rest[touched] = (rest[touched] - rest[touched, column, None] * pivot) % _PRIME


def row_lattice(rows: Matrix) -> Matrix:
    """A triangular basis of the lattice that integer rows of full column rank span.

    >>> row_lattice([[4, 1], [6, 0]])
    [[2, -1], [0, 3]]
    """
    size = len(rows[0])
    basis: list[list[int] | None] = [None] * size
    for generator in rows:
        row = list(generator)
        for column in range(size):
            while row[column]:
                kept = basis[column]
                if kept is None:
                    basis[column], row = row, [0] * size
                    break
                quotient = row[column] // kept[column]
                row = [x - quotient * y for x, y in zip(row, kept, strict=True)]
                if row[column]:
                    basis[column], row = row, kept
    return [row for row in basis if row is not None]


def reduce_basis(basis: Matrix) -> Matrix:
    """LLL reduction (Lenstra, Lenstra, Lovasz 1982; delta = 3/4) of independent integer rows.

    >>> reduce_basis([[1, 100], [0, 1]])
    [[0, 1], [1, 0]]
    """
    rows = [list(row) for row in basis]
    count = len(rows)

    def dot(x: list[int], y: list[int]) -> int:
        return sum(a * b for a, b in zip(x, y, strict=True))

    gram = [[dot(x, y) for y in rows] for x in rows]
    mu = [[Fraction(0)] * count for _ in range(count)]
    norm = [Fraction(0)] * count

    def orthogonalise(k: int) -> None:
        for j in range(k):
            rest = sum((mu[j][i] * mu[k][i] * norm[i] for i in range(j)), Fraction(0))
            mu[k][j] = (gram[k][j] - rest) / norm[j]
        norm[k] = gram[k][k] - sum((mu[k][i] ** 2 * norm[i] for i in range(k)), Fraction(0))

    def subtract(k: int, j: int) -> None:
        times = round(mu[k][j])
        if times:
            rows[k] = [a - times * b for a, b in zip(rows[k], rows[j], strict=True)]
            for i in range(count):
                gram[k][i] = gram[i][k] = dot(rows[k], rows[i])
            for i in range(j):
                mu[k][i] -= times * mu[j][i]
            mu[k][j] -= times

    if count:
        orthogonalise(0)
    k = 1
    while k < count:
        orthogonalise(k)
        for j in reversed(range(k)):
            subtract(k, j)
        if norm[k] >= (Fraction(3, 4) - mu[k][k - 1] ** 2) * norm[k - 1]:
            k += 1
            continue
        rows[k - 1], rows[k] = rows[k], rows[k - 1]
        gram[k - 1], gram[k] = gram[k], gram[k - 1]
        for line in gram:
            line[k - 1], line[k] = line[k], line[k - 1]
        orthogonalise(k - 1)
        k = max(k - 1, 1)
    return rows


def factor_integers(matrix: IntArray, limit: int) -> tuple[IntArray, IntArray] | None:
    """``matrix = left @ right`` over the integers, ``right`` a short basis of the row lattice.

    None when the rank exceeds ``limit``, or when the factors do not hold (see `pivots`).

    >>> left, right = factor_integers(np.array([[2, 4], [3, 6]]), limit=1)
    >>> left.tolist(), right.tolist()
    ([[2], [3]], [[1, 2]])
    """
    found = pivots(matrix, limit)
    if found is None:
        return None
    rows, columns = found
    if not rows:
        return np.zeros((len(matrix), 0), np.int64), np.zeros((0, matrix.shape[1]), np.int64)
    part = np.unique(matrix[:, columns], axis=0).tolist()
    # A vector of the row space is known from its pivot columns; `whole` extends it to all of them.
    square = matrix[np.ix_(rows, columns)].astype(object)
    inverse, scale = _inverse(square)
    short = np.array(row_lattice(part), dtype=object)
    whole = (short @ inverse @ matrix[rows].astype(object)) // scale
    right = np.array(reduce_basis(whole.tolist()), dtype=object)
    inverse, scale = _inverse(right[:, columns])
    left = (matrix[:, columns].astype(object) @ inverse) // scale
    big = max(abs(x) for side in (left, right) for x in side.flat)
    if big >= 1 << 31:
        return None
    factors = left.astype(np.int64), right.astype(np.int64)
    return factors if np.array_equal(factors[0] @ factors[1], matrix) else None


def _inverse(matrix: npt.NDArray[np.object_]) -> tuple[npt.NDArray[np.object_], int]:
    """(A, d) with A / d the inverse; integers throughout (Bareiss elimination on [M | I])."""
    size = len(matrix)
    work = [list(row) + [int(i == j) for j in range(size)] for i, row in enumerate(matrix.tolist())]
    previous = 1
    for k in range(size):
        swap = next(i for i in range(k, size) if work[i][k])
        if swap != k:
            work[k], work[swap] = work[swap], [-x for x in work[k]]
        pivot = work[k][k]
        for i in range(size):
            if i != k:
                times = work[i][k]
                work[i] = [
                    (pivot * x - times * y) // previous
                    for x, y in zip(work[i], work[k], strict=True)
                ]
        previous = pivot
    return np.array([row[size:] for row in work], dtype=object), previous
