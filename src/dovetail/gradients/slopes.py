"""The definitions: slopes of a multiplier's products along one operand.

All take ``f`` as an array whose first axis runs over an operand's consecutive codes, ``x = lo..hi``
(``n`` of them), whatever the others are, and give an array of its shape.
"""

from __future__ import annotations

import numpy as np
import numpy.typing as npt

__all__ = ["FloatArray", "largest_window", "line_slope", "smoothed_slope"]

FloatArray = npt.NDArray[np.float64]


def smoothed_slope(f: FloatArray, window: int) -> FloatArray:
    """LUT-2D: the difference quotient of ``f`` and ``x``, both smoothed.

    ``S f(x)`` is the mean of ``f(x')`` over ``|x' - x| <= window``, ``lo <= x' <= hi``; then

        ``slope(x) = (S f(x+1) - S f(x-1)) / (S x+1 - S x-1)``

    where a neighbour outside ``lo..hi`` is ``x`` itself. Away from the ends the divisor is 2, as in
    Meng et al., arXiv 2509.10519. Near them windows are cut off and their middles move more slowly:
    the divisor counts that, so a straight line has its slope everywhere.

    >>> smoothed_slope(np.array([0.0, 0.0, 2.0, 2.0, 4.0, 4.0]), 0)
    array([0., 1., 1., 1., 1., 0.])
    >>> smoothed_slope(np.array([0.0, 0.0, 2.0, 2.0, 4.0, 4.0]), 1).round(2)
    array([1.33, 0.89, 1.  , 1.  , 0.89, 1.33])
    """
    last = len(f) - 1
    x = np.arange(len(f))
    low, high = np.maximum(x - window, 0), np.minimum(x + window, last)
    sums = np.concatenate([np.zeros((1, *f.shape[1:])), np.cumsum(f, axis=0)])
    sides = [1] * (f.ndim - 1)
    smooth = (sums[high + 1] - sums[low]) / (high - low + 1).reshape(-1, *sides)
    middle = (low + high) / 2
    down, up = np.maximum(x - 1, 0), np.minimum(x + 1, last)
    rise, run = smooth[up] - smooth[down], middle[up] - middle[down]
    return np.asarray(rise / run.reshape(-1, *sides))


def largest_window(codes: int) -> int:
    """The largest half-window over so many codes: neighbours' windows must differ.

    >>> largest_window(255), largest_window(2)
    (127, 0)
    """
    return max(0, min(codes // 2, codes - 2))


def line_slope(f: FloatArray) -> FloatArray:
    """LUT-1D: at every x the slope of the line nearest to ``f`` over all codes, in least squares.

        ``slope = sum_x (x - mean x) f(x) / sum_x (x - mean x)**2``

    It does not depend on x: of ``df/da`` what is left is a function of the weight, and the other
    way round (the one-dimensional tables of Meng et al., arXiv 2509.10519).

    >>> line_slope(np.array([0.0, 0.0, 2.0, 2.0])).round(2)
    array([0.8, 0.8, 0.8, 0.8])
    """
    x = np.arange(len(f)) - (len(f) - 1) / 2
    slope = np.tensordot(x, f, axes=1) / (x @ x)
    return np.array(np.broadcast_to(slope, f.shape))
