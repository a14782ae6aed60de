"""A search as it is sent to whoever carries it out."""

from __future__ import annotations

import copy
from collections.abc import Iterable
from dataclasses import dataclass
from pathlib import Path
from typing import Any, Protocol

from torch import nn

from dovetail.emulation.trace import trace
from dovetail.recipe import Recipe
from dovetail.search.evaluator import Calibrating, Evaluate, Evaluator
from dovetail.search.grid import Grid
from dovetail.search.measures import Costs, OnData
from dovetail.search.objectives import Objectives
from dovetail.search.space import Space

__all__ = ["Conduct", "ModelTask", "Task"]


class Task(Protocol):
    """What is searched. It can be pickled; every worker prepares it for itself."""

    def prepare(self) -> Evaluator:
        """Everything read, built and checked."""


@dataclass(frozen=True)
class Conduct:
    """How it is searched. A study without a folder is kept in memory, by one worker."""

    folder: Path | None
    strategy: str
    trials: int
    seed: int
    surrogate: bool = False
    threads: int | None = None


@dataclass
class ModelTask:
    """The arguments of :func:`dovetail.search`."""

    model: nn.Module
    base: Recipe
    space: Space
    example: Any
    evaluate: Evaluate | Iterable[Any]
    objectives: Objectives
    calibrating: Calibrating | None
    seed: int
    prices: Costs

    def prepare(self) -> Evaluator:
        """On a copy of the model."""
        model = copy.deepcopy(self.model)
        grid = Grid(model, self.base, self.space, trace(model, self.example))
        evaluate = self.evaluate if callable(self.evaluate) else OnData(self.evaluate, self.seed)
        return Evaluator(
            grid,
            evaluate,
            self.objectives,
            self.calibrating,
            self.seed,
            prices=self.prices,
            settings=self._settings(),
        )

    def _settings(self) -> dict[str, Any]:
        how = self.calibrating
        return {
            "calibration": None if how is None else [how.batches, how.observer],
            "cost": self.prices.plain(),
        }
