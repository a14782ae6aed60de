"""The half-window that ``lut2d`` takes where none is given.

The one whose slopes are nearest, in the mean square over all pairs of operands, to the mean secant:

    ``m(a, w) = mean over a' != a of (f(a', w) - f(a, w)) / (a' - a)``

That is the slope which best predicts, in least squares, how fast ``f`` changes on the way from
``a`` to any other operand, all distances counting the same. Tried are 0 and the powers of two up to
`largest_window`; the smallest of the best is taken, for each operand by itself. Of operands with
more than 128 codes every n-th is looked at.
"""

from __future__ import annotations

import numpy as np

from dovetail.gradients.slopes import FloatArray, largest_window, smoothed_slope

__all__ = ["best_window", "mean_secant"]

_LOOKED_AT = 128


def mean_secant(f: FloatArray, x: FloatArray) -> FloatArray:
    """``m`` above for ``f`` at the operands ``x`` of its first axis.

    >>> mean_secant(np.array([[0.0], [0.0], [3.0]]), np.arange(3.0)).ravel()
    array([0.75, 1.5 , 2.25])
    """
    run = x[None] - x[:, None]
    weight = np.divide(1.0, run, out=np.zeros_like(run), where=run != 0) / (len(x) - 1)
    return np.asarray(weight @ f - weight.sum(1)[:, None] * f)


def best_window(left: FloatArray, right: FloatArray) -> int:
    """The half-window for the first operand of ``f = left @ right``.

    >>> steps = np.arange(-32, 32) & ~3  # of width 4
    >>> best_window(steps[:, None].astype(float), np.arange(-7.0, 8)[None])
    32
    """
    rows, columns = (_evenly(n) for n in (left.shape[0], right.shape[1]))
    seen = right[:, columns]
    wanted = mean_secant(left[rows] @ seen, rows.astype(np.float64))
    most = largest_window(len(left))
    windows = [0, *(1 << e for e in range(most.bit_length()))]
    misses = [_mean_square(smoothed_slope(left, w)[rows] @ seen - wanted) for w in windows]
    return windows[int(np.argmin(misses))]


def _mean_square(x: FloatArray) -> float:
    return float((x * x).mean())


def _evenly(count: int) -> np.ndarray[tuple[int], np.dtype[np.intp]]:
    return np.arange(0, count, -(-count // _LOOKED_AT))
