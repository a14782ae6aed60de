"""What a network's loss would be under a design, by first-order attribution: to pass over designs
that cannot win."""

from __future__ import annotations

import math
from collections.abc import Callable, Mapping
from dataclasses import dataclass

from dovetail.search.grid import Design, Grid
from dovetail.search.objectives import dominates
from dovetail.search.strategies import History

__all__ = ["Surrogate", "surrogate"]

_LEAST = 8  # evaluated designs, before the predictions are trusted
_SPREAD = 2.0  # deviations that a design may do better than predicted


@dataclass(frozen=True)
class Surrogate:
    """``predicted[axis][choice]`` is what a choice adds to the loss; they are summed."""

    predicted: tuple[tuple[float, ...], ...]

    def loss(self, design: Design) -> float:
        """That of a whole design."""
        return math.fsum(row[choice] for row, choice in zip(self.predicted, design, strict=True))

    def is_hopeless(self, history: History, design: Design) -> bool:
        """Whether an evaluated design beats it even if it does better than predicted.

        How the first objective follows from the prediction is a line fitted to the designs that
        were evaluated, the deviations from which say how far it may be off. The other objectives
        must be known without measuring.
        """
        others = list(history.objectives.directions)[1:]
        costs = history.cost(design)
        if len(history.values) < _LEAST or not all(name in costs for name in others):
            return False
        losses = {d: history.objectives.losses(v) for d, v in history.values.items()}
        first = self._best(design, {d: loss[0] for d, loss in losses.items()})
        if first is None:
            return False
        name = next(iter(history.objectives.directions))
        guess = history.objectives.losses({**costs, name: 0.0})
        wanted = (first, *guess[1:])
        feasible = (d for d, v in history.values.items() if history.objectives.is_feasible(v))
        return any(dominates(losses[d], wanted) for d in feasible)

    def _best(self, design: Design, losses: Mapping[Design, float]) -> float | None:
        """The least that the first loss may be."""
        points = [(self.loss(d), y) for d, y in losses.items()]
        points = [(x, y) for x, y in points if math.isfinite(x) and math.isfinite(y)]
        if len(points) < _LEAST:
            return None
        mean_x, mean_y = (math.fsum(column) / len(points) for column in zip(*points, strict=True))
        square = math.fsum((x - mean_x) ** 2 for x, _ in points)
        if square == 0:
            return None
        slope = math.fsum((x - mean_x) * (y - mean_y) for x, y in points) / square
        rest = math.fsum((y - mean_y - slope * (x - mean_x)) ** 2 for x, y in points)
        deviation = math.sqrt(rest / len(points))
        return mean_y + slope * (self.loss(design) - mean_x) - _SPREAD * deviation


def surrogate(
    grid: Grid, predict: Callable[[Design], Mapping[tuple[str, str], float]]
) -> Surrogate:
    """What each choice of each axis adds to the loss, of what ``predict`` says that every operation
    and source of error (a field of a rule) adds under designs that have all choices among them."""
    rows: list[list[float]] = [[0.0] * len(axis.choices) for axis in grid.axes]
    for design in grid.stages():
        found = predict(design)
        for i, axis in enumerate(grid.axes):
            sources = [(op.key, name) for op in axis.ops for name in axis.fields]
            rows[i][design[i]] = math.fsum(found.get(source, 0.0) for source in sources)
    return Surrogate(tuple(map(tuple, rows)))
