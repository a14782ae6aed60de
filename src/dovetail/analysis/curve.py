"""How a retraining went, as lines to draw: the mean loss of each epoch, and the metric."""

from __future__ import annotations

import math
from collections.abc import Sequence
from dataclasses import dataclass
from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from dovetail.training.result import FitResult

__all__ = ["Line", "curve"]

WIDTH, HEIGHT = 600.0, 120.0


@dataclass(frozen=True)
class Line:
    """One line: its points in a figure of `WIDTH` x `HEIGHT`, with what they are worth."""

    name: str
    points: tuple[tuple[float, float], ...]
    titles: tuple[str, ...]
    low: float
    high: float
    first: int

    @property
    def path(self) -> str:
        """The points as SVG has them."""
        return " ".join(f"{x:.1f},{y:.1f}" for x, y in self.points)


def curve(fit: FitResult) -> list[Line]:
    """The lines of a run: the loss from epoch 1 on, the metric, if there is one, from epoch 0.

    >>> from dovetail.training import FitResult
    >>> (loss,) = curve(FitResult((1.0, 0.5), 2, 0.1, None))
    >>> loss.path, loss.titles
    ('300.0,0.0 600.0,120.0', ('epoch 1: 1', 'epoch 2: 0.5'))
    """
    epochs = max(1, len(fit.losses), len(fit.metrics) - 1)
    lines = [_line("mean loss", 1, fit.losses, epochs), _line("metric", 0, fit.metrics, epochs)]
    return [line for line in lines if line.points]


def _line(name: str, first: int, values: Sequence[float], epochs: int) -> Line:
    finite = [value for value in values if math.isfinite(value)]
    low, high = (min(finite), max(finite)) if finite else (0.0, 0.0)
    span = (high - low) or 1.0
    places = [(epoch, value) for epoch, value in enumerate(values, first) if math.isfinite(value)]
    points = tuple((WIDTH * e / epochs, HEIGHT * (high - v) / span) for e, v in places)
    titles = tuple(f"epoch {e}: {v:.4g}" for e, v in places)
    return Line(name, points, titles, low, high, first)
