"""The definition of every mask, one element at a time; the patterns are tested equal to it."""

from __future__ import annotations

import itertools
import math
from collections.abc import Sequence

import numpy as np
import numpy.typing as npt

from dovetail.formats.reference.philox import philox

__all__ = ["bernoulli", "block_mask", "keep_largest", "n_of_m", "top_k"]

Scores = npt.NDArray[np.float64]
Mask = npt.NDArray[np.bool_]


def keep_largest(scores: Sequence[float], count: int) -> list[bool]:
    """Which of the scores are kept: the ``count`` largest, NaN first, of equal ones the earlier.

    >>> keep_largest([1.0, 2.0, 2.0, 0.0], 1)
    [False, True, False, False]
    """

    def rank(i: int) -> tuple[bool, float, int]:
        s = float(scores[i])
        return (not math.isnan(s), 0.0 if math.isnan(s) else -s, i)

    kept = set(sorted(range(len(scores)), key=rank)[:count])
    return [i in kept for i in range(len(scores))]


def top_k(scores: Scores, count: int) -> Mask:
    """The ``count`` largest of all, in row-major order.

    >>> top_k(np.array([[1.0, 4.0], [3.0, 2.0]]), 2).astype(int).tolist()
    [[0, 1], [1, 0]]
    """
    return np.array(keep_largest(scores.ravel().tolist(), count), bool).reshape(scores.shape)


def n_of_m(scores: Scores, keep: int, of: int, axis: int) -> Mask:
    """The ``keep`` largest of each run of ``of`` neighbours along ``axis``.

    >>> n_of_m(np.array([[1.0, 4.0, 3.0, 2.0]]), 1, 2, -1).astype(int).tolist()
    [[0, 1, 1, 0]]
    """
    mask = np.zeros(scores.shape, bool)
    lines, out = np.moveaxis(scores, axis, -1), np.moveaxis(mask, axis, -1)
    for line in np.ndindex(*lines.shape[:-1]):
        for start in range(0, lines.shape[-1], of):
            run = lines[line][start : start + of].tolist()
            out[line][start : start + of] = keep_largest(run, keep)
    return mask


def block_mask(scores: Scores, rows: int, columns: int, count: int) -> Mask:
    """The ``count`` blocks of ``rows x columns`` whose scores, added in row-major order in float64,
    are largest; the tensor is seen as a matrix whose rows are its first axis.

    >>> block_mask(np.array([[1.0, 2.0], [3.0, 4.0]]), 2, 1, 1).astype(int).tolist()
    [[0, 1], [0, 1]]
    """
    matrix = scores.reshape(scores.shape[0], -1)
    mask = np.zeros(matrix.shape, bool)
    corners = list(
        itertools.product(range(0, matrix.shape[0], rows), range(0, matrix.shape[1], columns))
    )
    sums = []
    for top, left in corners:
        total = 0.0
        for value in matrix[top : top + rows, left : left + columns].ravel().tolist():
            total += value
        sums.append(total)
    for (top, left), kept in zip(corners, keep_largest(sums, count), strict=True):
        mask[top : top + rows, left : left + columns] = kept
    return mask.reshape(scores.shape)


def bernoulli(probabilities: Scores, seed: int) -> Mask:
    """Element i, in row-major order, is kept where word i of Philox under ``seed`` is less than
    2**32 times its probability; what is not a number is kept.

    >>> bernoulli(np.array([0.0, 0.5, 1.0]), seed=0).tolist()
    [False, False, True]
    """
    words = philox(probabilities.size, seed)
    kept = [
        math.isnan(p) or word < min(max(p, 0.0), 1.0) * 2.0**32
        for word, p in zip(words, probabilities.ravel().tolist(), strict=True)
    ]
    return np.array(kept, bool).reshape(probabilities.shape)
