"""Simulated annealing over what an array leaves out, for errors that are quadratic in it.

S. Kirkpatrick, C. D. Gelatt, M. P. Vecchi, "Optimization by Simulated Annealing", Science 1983.
"""

from __future__ import annotations

import math

import numpy as np

from dovetail.multipliers.designs.area import area_of_sums, column_heights
from dovetail.multipliers.designs.criteria import MeanSquare
from dovetail.multipliers.operands import IntArray

__all__ = ["annealed"]

STEPS = 30_000
HOT, COLD = 0.25, 0.003  # of the logarithm of the loss
GATE = 0.03  # what a gate beyond the budget adds to that


def annealed(aim: MeanSquare, dropped: IntArray, budget: int, rng: np.random.Generator) -> IntArray:
    """The best array within the budget met on a walk from ``dropped``, which is.

    A step flips one partial product or exchanges a dropped one with a kept one. Gates beyond the
    budget weigh as a larger loss.
    """
    walk, excess = _Walk(aim, dropped), 0
    best, least = dropped.copy(), walk.loss
    draws = rng.integers(0, aim.count, (STEPS, 2)).tolist()
    chances = np.log(rng.random(STEPS)).tolist()
    for step in range(STEPS):
        first, second = draws[step]
        # Two alike would move the size by two: then the first alone.
        places = (first,) if walk.state[first] == walk.state[second] else (first, second)
        loss, area = walk.loss_after(places), walk.area_after(places)
        beyond = max(0, area - budget)
        worse = math.log(loss / walk.loss) + GATE * (beyond - excess)
        heat = HOT * (COLD / HOT) ** (step / STEPS)
        if worse > 0 and worse > -heat * chances[step]:
            continue
        walk.move(places, loss)
        excess = beyond
        if loss < least and not beyond:
            best, least = walk.dropped.copy(), loss
    return best


class _Walk:
    """Where the walk stands, with the loss and the column heights kept up to date."""

    def __init__(self, aim: MeanSquare, dropped: IntArray) -> None:
        self.aim = aim
        self.dropped = dropped.copy()
        self.state: list[int] = dropped.tolist()
        self.heights = column_heights((1 - dropped).reshape(aim.bits), aim.bits)
        self.columns = np.add.outer(*(np.arange(n) for n in aim.bits)).ravel().tolist()
        self.negative = _negative(aim).tolist()
        self.signs = -sum(
            1 << k
            for k, negative, out in zip(self.columns, self.negative, self.state, strict=True)
            if negative and not out
        )
        self.kept = aim.count - int(dropped.sum())
        self.centre = float(aim.mean @ dropped)
        self.slope = aim.form @ dropped
        self.form = aim.form.tolist()
        self.mean = aim.mean.tolist()
        self.loss = max(float(dropped @ self.slope), 1e-30)

    def loss_after(self, places: tuple[int, ...]) -> float:
        """The loss with these flipped."""
        first = places[0]
        step = 1 - 2 * self.state[first]
        loss = self.loss + 2 * step * self.slope[first] + self.form[first][first]
        if len(places) == 2:
            second = places[1]
            # of the other kind, so its step is the opposite one
            loss += -2 * step * self.slope[second] + self.form[second][second]
            loss -= 2 * self.form[first][second]
        return max(float(loss), 1e-30)

    def area_after(self, places: tuple[int, ...]) -> int:
        """Unit gates with these flipped."""
        heights, kept, signs, centre = list(self.heights), self.kept, self.signs, self.centre
        for place in places:
            step = 1 if self.state[place] else -1  # put back, or taken away
            heights[self.columns[place]] += step
            kept += step
            centre -= step * self.mean[place]
            if self.negative[place]:
                signs -= step << self.columns[place]
        constant = round(centre) if self.aim.compensate else 0
        return kept + area_of_sums(heights, (constant + signs) % (1 << len(heights)))

    def move(self, places: tuple[int, ...], loss: float) -> None:
        """Flip these."""
        for place in places:
            step = 1 if self.state[place] else -1
            self.heights[self.columns[place]] += step
            self.kept += step
            self.centre -= step * self.mean[place]
            self.slope -= step * self.aim.form[place]
            if self.negative[place]:
                self.signs -= step << self.columns[place]
            self.state[place] ^= 1
            self.dropped[place] ^= 1
        self.loss = loss


def _negative(aim: MeanSquare) -> IntArray:
    """Which partial products have a negative weight."""
    first, second = (np.arange(n) == n - 1 for n in aim.bits)
    return np.asarray((first[:, None] ^ second[None]).ravel() & aim.signed, dtype=np.int64)
