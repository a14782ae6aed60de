"""Monte Carlo tree search: one level of the tree per axis, led by how sensitive each choice is."""

from __future__ import annotations

import math
import random
from collections import defaultdict
from collections.abc import Mapping
from dataclasses import dataclass

from dovetail.search.grid import Design
from dovetail.search.strategies.base import History, unseen

__all__ = ["MCTS"]

_TRIES = 20


@dataclass(frozen=True)
class MCTS:
    """The search of TransAxx (Danopoulos, Zervakis, Soudris and Henkel, 2024), made for fronts.

    Every design is a path from the root, a level for each axis. A path goes down by what its
    designs were worth and by a policy (PUCT; Rosin, 2011), and from the first node that nobody
    visited on by the policy alone. The policy prefers choices whose designs were worth more, or
    that a surrogate predicts a small loss for. What a design is worth is a weighted mean of its
    objectives, with weights drawn anew for every path, so that the paths end all along the front.
    """

    exploration: float = 0.7

    def propose(self, history: History, rng: random.Random) -> Design | None:
        """The tree is built anew of what is known."""
        weights = [rng.expovariate(1.0) for _ in history.objectives.directions]
        worth = _worth(history, weights)
        policy = _policy(history, worth, weights)
        for _ in range(_TRIES):
            found = history.grid.repaired(self._path(worth, policy, rng))
            if found is not None and not history.knows(found):
                return found
        return unseen(history, rng)

    def _path(
        self,
        worth: Mapping[Design, float],
        policy: list[list[float]],
        rng: random.Random,
    ) -> Design:
        visits: dict[Design, int] = defaultdict(int)
        total: dict[Design, float] = defaultdict(float)
        for design, value in worth.items():
            for depth in range(len(design) + 1):
                visits[design[:depth]] += 1
                total[design[:depth]] += value
        path: Design = ()
        for probabilities in policy:
            known = visits[path]
            children = [(*path, choice) for choice in range(len(probabilities))]
            if not known or not all(visits[child] for child in children):
                untried = [0.0 if known and visits[c] else 1.0 for c in children]
                weights = [p * u for p, u in zip(probabilities, untried, strict=True)]
                path = rng.choices(children, weights)[0]
                continue
            scores = [
                total[child] / visits[child]
                + self.exploration * p * len(children) * math.sqrt(known) / (1 + visits[child])
                for child, p in zip(children, probabilities, strict=True)
            ]
            path = children[scores.index(max(scores))]
        return path


def _worth(history: History, weights: list[float]) -> dict[Design, float]:
    """For every design known 1 minus the weighted mean of its losses, each from 0, the least, to 1,
    the most of all; 1 less where a bound is missed."""
    losses = {design: history.objectives.losses(v) for design, v in history.values.items()}
    columns = [
        [x for x in column if math.isfinite(x)] for column in zip(*losses.values(), strict=True)
    ]
    spans = [(min(c, default=0.0), max(c, default=1.0)) for c in columns]

    def mean(loss: tuple[float, ...]) -> float:
        shares = (_share(x, *span) for x, span in zip(loss, spans, strict=True))
        return sum(w * s for w, s in zip(weights, shares, strict=True)) / sum(weights)

    feasible = {design: history.objectives.is_feasible(v) for design, v in history.values.items()}
    return {d: 1.0 - mean(loss) - (0.0 if feasible[d] else 1.0) for d, loss in losses.items()}


def _share(x: float, low: float, high: float) -> float:
    if not math.isfinite(x):
        return 0.0 if x < 0 else 1.0
    return (x - low) / (high - low) if high > low else 0.0


def _policy(
    history: History, worth: Mapping[Design, float], weights: list[float]
) -> list[list[float]]:
    """For every axis the probabilities of its choices."""
    mean = sum(worth.values()) / len(worth) if worth else 0.0
    found = []
    for axis, each in enumerate(history.grid.axes):
        scores = []
        for choice in range(len(each.choices)):
            values = [v for design, v in worth.items() if design[axis] == choice]
            # One more, of the mean: a choice that was seen once is not known well.
            scores.append((sum(values) + mean) / (len(values) + 1))
        if history.predicted is not None:
            row = history.predicted[axis]
            low, high = min(row), max(row)
            share = weights[0] / sum(weights)
            scores = [
                score - share * _share(loss, low, high)
                for score, loss in zip(scores, row, strict=True)
            ]
        spread = (max(scores) - min(scores)) or 1.0
        powers = [math.exp(2.0 * (score - max(scores)) / spread) for score in scores]
        found.append([power / sum(powers) for power in powers])
    return found
