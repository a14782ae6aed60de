"""A piecewise polynomial: what a table, a piecewise linear and a polynomial unit hold."""

from __future__ import annotations

import math
from collections.abc import Callable, Sequence
from dataclasses import dataclass, field
from itertools import pairwise
from typing import Any

import numpy as np
import torch
from torch import Tensor

from dovetail.approximations.minimax import minimax
from dovetail.approximations.steps import Steps

__all__ = ["SPACINGS", "Pieces", "edges", "fit_pieces"]

SPACINGS = ("uniform", "curvature")


@dataclass(frozen=True)
class Pieces:
    """``starts[i]`` is where piece i begins; ``coefficients[i][j]`` multiplies
    ``(t - starts[i]) ** j``. What lies below the first piece belongs to it.

    >>> Pieces((0.0, 1.0), ((0.0, 1.0), (1.0, 3.0))).at(torch.tensor([0.5, 2.0]), Steps()).tolist()
    [0.5, 4.0]
    """

    starts: tuple[float, ...]
    coefficients: tuple[tuple[float, ...], ...]
    is_uniform: bool = field(init=False, compare=False, repr=False)

    def __post_init__(self) -> None:
        """``is_uniform``: every start is less than half a step from where equal steps have it."""
        object.__setattr__(self, "is_uniform", _is_uniform(self.starts))

    @property
    def degree(self) -> int:
        return len(self.coefficients[0]) - 1

    def at(self, t: Tensor, steps: Steps, rows: Tensor | None = None) -> Tensor:
        """The value at ``t`` (float64): difference, products and sums by Horner, each rounded.

        ``rows`` are those of :meth:`rows_on`, where they are at hand.
        """
        start: Any
        coefficients: Sequence[Any]
        if len(self.starts) == 1:
            start, coefficients = self.starts[0], self.coefficients[0]
        else:
            rows = self.rows_on(t.device) if rows is None else rows
            place = self._place(t.detach(), rows)
            start, coefficients = _at(rows[0], place), [_at(row, place) for row in rows[2:]]
        if self.degree == 0:
            return torch.where(t.isnan(), t, coefficients[0])
        d = steps(t - start)
        y = steps(steps(d * coefficients[-1]) + coefficients[-2])
        for c in reversed(coefficients[:-2]):
            y = steps(steps(d * y) + c)
        return y

    def _place(self, t: Tensor, rows: Tensor) -> Tensor:
        """The piece of each value: where starts are nearly equidistant, by a guess that is at most
        one off, and else by a search."""
        if not self.is_uniform:
            return torch.searchsorted(rows[0, 1:], t.contiguous(), right=True)
        last = len(self.starts) - 1
        steepness = last / (self.starts[-1] - self.starts[0])
        guess = ((t - self.starts[0]) * steepness).clamp(0, last).to(torch.int64).clamp(0, last)
        guess = (guess - (t < _at(rows[0], guess)).to(torch.int64)).clamp(min=0)
        return guess + (t >= _at(rows[1], guess)).to(torch.int64)

    def rows_on(self, device: torch.device) -> Tensor:
        """Starts, ends, and below them a row for each power, as a float64 tensor."""
        ends = (*self.starts[1:], math.nan)  # nothing lies beyond the last piece
        rows = [self.starts, ends, *zip(*self.coefficients, strict=True)]
        return torch.tensor(rows, dtype=torch.float64, device=device)


def _at(row: Tensor, place: Tensor) -> Tensor:
    """``row[place]``, several times as fast."""
    return row.index_select(0, place.flatten()).view(place.shape)


def _is_uniform(starts: tuple[float, ...]) -> bool:
    count = len(starts) - 1
    step = (starts[-1] - starts[0]) / max(count, 1)
    return max(abs(s - starts[0] - i * step) for i, s in enumerate(starts)) < step / 2


def edges(
    function: Callable[[float], float], low: float, high: float, count: int, degree: int, how: str
) -> list[float]:
    """``count + 1`` ends of pieces: ``uniform``, or closer where ``curvature`` asks for it.

    By curvature, pieces share evenly the integral of the root of degree ``degree + 1`` of the
    derivative of that order, which makes their errors nearly equal.

    >>> edges(lambda t: t * t, 0.0, 1.0, 2, 1, "uniform")
    [0.0, 0.5, 1.0]
    """
    if how == "uniform":
        return [low + (high - low) * i / count for i in range(count)] + [high]
    order, coarse = degree + 1, np.linspace(low, high, 257)
    bends = np.abs(np.diff([function(float(t)) for t in coarse], order))
    middles = coarse[: len(bends)] + (coarse[order] - coarse[0]) / 2
    points = np.linspace(low, high, 4097)
    density = (np.interp(points, middles, bends) + 1e-3 * bends.max()) ** (1 / order)
    total = np.concatenate([[0.0], np.cumsum((density[1:] + density[:-1]) / 2)])
    inner = np.interp(total[-1] * np.arange(1, count) / count, total, points)
    return [low, *(float(t) for t in inner), high]


def fit_pieces(
    function: Callable[[float], float],
    ends: list[float],
    degree: int,
    weight: Callable[[float], float] | None,
    rounded: Callable[[list[float]], list[float]],
) -> Pieces:
    """The piece of smallest maximum error on each interval; starts and coefficients ``rounded``.

    >>> fit_pieces(lambda t: 2 * t, [0.0, 1.0, 2.0], 1, None, list).starts
    (0.0, 1.0)
    """
    starts = rounded(ends[:-1])
    pieces = []
    for low, high in pairwise([*starts, ends[-1]]):
        pieces.append(minimax(function, low, max(low, high), degree, weight)[0])
    by_power = [rounded(list(column)) for column in zip(*pieces, strict=True)]
    return Pieces(tuple(starts), tuple(zip(*by_power, strict=True)))
