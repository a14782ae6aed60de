"""The search for what to leave out: all of it for small arrays, else greedy, annealed, local.

Deterministic: ties go to the lower index, walks draw from a seeded generator.
"""

from __future__ import annotations

from typing import TypeAlias

import numpy as np

from dovetail.multipliers.designs.annealing import annealed
from dovetail.multipliers.designs.area import array_area
from dovetail.multipliers.designs.criteria import Criterion, MeanSquare
from dovetail.multipliers.operands import IntArray

__all__ = ["best_array"]

#: Losses, and which partial products are flipped.
Neighbours: TypeAlias = list[tuple[float, tuple[int, ...]]]

ALL = 16  # partial products of which every subset is tried


def best_array(aim: Criterion, cost: float, restarts: int, seed: int) -> tuple[int, int]:
    """The mask and the constant of the least loss within ``cost`` of the exact array's gates."""
    full = np.ones(aim.bits, dtype=np.int64)
    budget = int(cost * array_area(full, aim.bits, aim.signed) + 1e-9)
    if aim.count <= ALL:
        best = _all(aim, budget)
    elif isinstance(aim, MeanSquare):
        best = _searched(aim, budget, restarts, seed)
    else:
        square = aim.square()
        best = _improved(aim, _searched(square, budget, restarts, seed), budget)
        best = _least(aim, [best, *_known(aim, budget)])
    mask = sum(1 << place for place in range(aim.count) if not best[place])
    return mask, aim.constant(best)


def _searched(aim: MeanSquare, budget: int, restarts: int, seed: int) -> IntArray:
    start = _greedy(aim, np.zeros(aim.count, dtype=np.int64), budget)
    found = [start, *_known(aim, budget)]
    rng = np.random.default_rng(seed)
    walks = (annealed(aim, start, budget, rng) for _ in range(restarts))
    found += [walk for walk in walks if aim.area(walk) <= budget]
    return _least(aim, [_improved(aim, dropped, budget) for dropped in found])


def _known(aim: Criterion, budget: int) -> list[IntArray]:
    """The best truncated and the best broken array that fit: no design is worse than these."""
    i, j = np.indices(aim.bits)
    families = (
        [(i < a) | (j < b) for a in range(aim.bits[0] + 1) for b in range(aim.bits[1] + 1)],
        [(i + j < c) | (j < r) for c in range(sum(aim.bits)) for r in range(aim.bits[1] + 1)],
    )
    best = []
    for family in families:
        left_out = [dropped.astype(np.int64).ravel() for dropped in family]
        best.append(_least(aim, [d for d in left_out if aim.area(d) <= budget]))
    return best


def _least(aim: Criterion, among: list[IntArray]) -> IntArray:
    return min(among, key=lambda dropped: (aim.loss(dropped), aim.area(dropped)))


def _all(aim: Criterion, budget: int) -> IntArray:
    """The best of all subsets that fit."""
    subsets = np.arange(1 << aim.count)[:, None] >> np.arange(aim.count) & 1
    if isinstance(aim, MeanSquare):
        losses = np.einsum("si,ij,sj->s", subsets, aim.form, subsets, optimize=True)
    else:
        losses = np.array([aim.loss(dropped) for dropped in subsets])
    order = np.argsort(losses, kind="stable")
    return next(subsets[i] for i in order if aim.area(subsets[i]) <= budget)


def _greedy(aim: Criterion, dropped: IntArray, budget: int) -> IntArray:
    """Drop what costs the least loss for each gate saved, until the rest fits."""
    dropped = dropped.copy()
    while (area := aim.area(dropped)) > budget:
        losses, here = aim.flips(dropped), aim.loss(dropped)
        ratios = np.full(aim.count, np.inf)
        for place in np.flatnonzero(dropped == 0):
            dropped[place] = 1
            saved = area - aim.area(dropped)
            dropped[place] = 0
            # A constant can make a smaller array larger; such steps come last.
            ratios[place] = (losses[place] - here) / saved if saved > 0 else 1e300
        dropped[int(np.argmin(ratios))] = 1
    return dropped


def _improved(aim: Criterion, dropped: IntArray, budget: int) -> IntArray:
    """Flip one or exchange two while the loss falls and the array fits."""
    while True:
        better = _step(aim, dropped, budget)
        if better is None:
            return dropped
        dropped = better


def _step(aim: Criterion, dropped: IntArray, budget: int) -> IntArray | None:
    """The best neighbour that fits and is better, if there is one."""
    here = aim.loss(dropped)
    limit = here - 1e-9 * abs(here)
    flips = aim.flips(dropped)
    neighbours: Neighbours = [(loss, (place,)) for place, loss in enumerate(flips.tolist())]
    found = _first(aim, dropped, budget, neighbours, limit)
    if found is None:
        pairs = aim.exchanges(dropped)
        neighbours = [
            (pairs[i, j], (i, j)) for i, j in np.argwhere(np.triu(pairs < limit, 1)).tolist()
        ]
        found = _first(aim, dropped, budget, neighbours, limit)
    return found


def _first(
    aim: Criterion,
    dropped: IntArray,
    budget: int,
    neighbours: Neighbours,
    limit: float,
) -> IntArray | None:
    for loss, places in sorted(neighbours):
        if loss >= limit:
            return None
        moved = dropped.copy()
        moved[list(places)] ^= 1
        if aim.area(moved) <= budget and aim.loss(moved) < limit:
            return moved
    return None
