"""The ways to search a space, by their names."""

from __future__ import annotations

from dovetail.errors import unknown
from dovetail.search.grid import Grid
from dovetail.search.strategies.base import History, Proposer, Sampled, Strategy, unseen
from dovetail.search.strategies.exhaustive import Exhaustive
from dovetail.search.strategies.greedy import Greedy, predicted_path
from dovetail.search.strategies.mcts import MCTS
from dovetail.search.strategies.sampled import NSGA2, TPE, Anything

__all__ = [
    "STRATEGIES",
    "Anything",
    "Greedy",
    "History",
    "Proposer",
    "Sampled",
    "Strategy",
    "predicted_path",
    "strategy",
    "unseen",
]

#: Their names.
STRATEGIES = ("nsga2", "tpe", "greedy", "exhaustive", "mcts")


def strategy(name: str, grid: Grid, trials: int) -> Strategy:
    """The strategy of a name, for so many trials; refused if it is not for this space.

    >>> strategy("nsga", None, 60)
    Traceback (most recent call last):
    dovetail.errors.DovetailError: unknown strategy 'nsga'; did you mean 'nsga2'? ...
    """
    if name == "exhaustive":
        Exhaustive.check(grid)
        return Exhaustive()
    if name == "greedy":
        return Greedy()
    if name == "mcts":
        return MCTS()
    generation = max(4, min(50, trials // 5))
    if name == "nsga2":
        return NSGA2(generation)
    if name == "tpe":
        return TPE(generation)
    raise unknown("strategy", name, STRATEGIES)
