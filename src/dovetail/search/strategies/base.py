"""What a strategy is: of what is known, which design comes next."""

from __future__ import annotations

import random
from collections.abc import Callable, Mapping
from dataclasses import dataclass, field
from typing import TYPE_CHECKING, Protocol, runtime_checkable

from dovetail.search.grid import Design, Grid
from dovetail.search.objectives import Objectives

if TYPE_CHECKING:
    import optuna

__all__ = ["History", "Proposer", "Sampled", "Strategy", "unseen"]

_DRAWS = 200  # of designs at random, before all of them are looked through
_FEW = 50_000


def _nothing(design: Design) -> Mapping[str, float]:  # noqa: ARG001
    return {}


@dataclass(frozen=True)
class History:
    """The designs that were evaluated, in their order with their figures, and those that others
    evaluate now. ``cost`` gives the figures of a design that need no measuring; ``predicted`` is
    what a surrogate thinks each choice of each axis adds to a network's loss, if there is one."""

    grid: Grid
    objectives: Objectives
    values: dict[Design, dict[str, float]] = field(default_factory=dict)
    running: frozenset[Design] = frozenset()
    cost: Callable[[Design], Mapping[str, float]] = _nothing
    predicted: tuple[tuple[float, ...], ...] | None = None

    def knows(self, design: Design) -> bool:
        """Whether nobody needs to evaluate it any more."""
        return design in self.values or design in self.running

    def figures(self, design: Design) -> dict[str, float]:
        """All that is known of a design."""
        return {**self.cost(design), **self.values.get(design, {})}


@runtime_checkable
class Proposer(Protocol):
    """A strategy that names the next design itself; a function of what is known and of ``rng``.

    ``None``: there is nothing left to evaluate.
    """

    def propose(self, history: History, rng: random.Random) -> Design | None:
        """The next design."""


@runtime_checkable
class Sampled(Protocol):
    """A strategy of Optuna's, which keeps what it needs in the study."""

    def sampler(self, seed: int) -> optuna.samplers.BaseSampler:
        """A sampler for one trial."""


Strategy = Proposer | Sampled


def unseen(history: History, rng: random.Random) -> Design | None:
    """A design at random that nobody evaluated; ``None`` if there is none, as far as can be told.

    A space that is too large to be looked through always has one.
    """
    grid = history.grid
    for _ in range(_DRAWS):
        drawn = grid.repaired(tuple(rng.randrange(len(axis.choices)) for axis in grid.axes))
        if drawn is not None and not history.knows(drawn):
            return drawn
    if grid.size > _FEW:
        return None
    return next((design for design in grid.designs() if not history.knows(design)), None)
