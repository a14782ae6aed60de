"""The polynomial of smallest maximum error: Remez' exchange on a grid of points."""

from __future__ import annotations

from collections.abc import Callable
from itertools import pairwise

import numpy as np

__all__ = ["minimax"]

_POINTS = 513


def minimax(
    function: Callable[[float], float],
    low: float,
    high: float,
    degree: int,
    weight: Callable[[float], float] | None = None,
) -> tuple[list[float], float]:
    """Coefficients of ``(t - low)**j``, and the largest ``|weight * error|`` on the grid.

    The grid is dense at both ends, as the extremes of the error are.

    >>> coefficients, error = minimax(lambda t: t * t, -1.0, 1.0, 1)
    >>> [round(c, 4) for c in coefficients], round(error, 4)
    ([0.5, 0.0], 0.5)
    """
    angles = np.linspace(0.0, np.pi, _POINTS)
    d = (high - low) * (0.5 - 0.5 * np.cos(angles))
    values = np.array([function(low + float(x)) for x in d])
    weights = np.array([weight(low + float(x)) for x in d]) if weight else np.ones(_POINTS)
    span = (high - low) or 1.0
    powers = np.vander(d / span, degree + 1, increasing=True)
    chosen = np.unique(np.linspace(0, _POINTS - 1, degree + 2).round().astype(int))
    best, best_error = np.zeros(degree + 1), np.inf
    for _ in range(40):
        signs = (-1.0) ** np.arange(len(chosen))
        rows = np.column_stack([powers[chosen] * weights[chosen, None], signs])
        solved = np.linalg.lstsq(rows, values[chosen] * weights[chosen], rcond=None)[0]
        error = weights * (powers @ solved[:-1] - values)
        worst = float(np.abs(error).max())
        if worst < best_error:
            best, best_error = solved[:-1], worst
        if worst <= abs(solved[-1]) * (1 + 1e-9) or worst < 1e-15:
            break
        chosen = _exchanged(error, degree + 2)
        if len(chosen) < degree + 2:
            break
    scaled = best / span ** np.arange(degree + 1)
    return [float(c) for c in scaled], best_error


def _exchanged(error: np.ndarray, count: int) -> np.ndarray:
    """The largest error of each run of one sign; of more than ``count`` the end's smaller goes."""
    signs = np.where(error >= 0, 1, -1)
    cuts = [0, *(np.flatnonzero(np.diff(signs)) + 1).tolist(), len(error)]
    peaks = [a + int(np.abs(error[a:b]).argmax()) for a, b in pairwise(cuts)]
    while len(peaks) > count:
        peaks.pop(0 if abs(error[peaks[0]]) < abs(error[peaks[-1]]) else -1)
    return np.array(peaks)
