"""Greedy by sensitivity: from the first choices on, always the change that costs least."""

from __future__ import annotations

import math
import random
from collections.abc import Iterator
from dataclasses import dataclass

from dovetail.search.grid import Design
from dovetail.search.strategies.base import History, unseen

__all__ = ["Greedy", "predicted_path"]

Move = tuple[int, int]  # an axis, and the choice it gets


@dataclass(frozen=True)
class Greedy:
    """The first choice of every axis is the start. Every other choice is tried alone: what it adds
    to the loss of the first objective, for what it takes from the others, is its price. (With a
    surrogate its prediction is the price, and nothing is tried alone.) Then the moves are made one
    after the other, the cheapest first; one after which a bound is missed is taken back. What is
    left of the trials goes to designs at random.
    """

    def propose(self, history: History, rng: random.Random) -> Design | None:
        """A function of what is known: it goes on wherever another left off."""
        path = (design for design in _path(history) if not history.knows(design))
        return next(path, None) or unseen(history, rng)


def predicted_path(history: History) -> list[Design]:
    """The designs that the moves lead through if all predictions are right and all bounds met."""
    start = next(iter(history.grid.stages()), None)
    if start is None or history.predicted is None:
        return []
    path = [start]
    for move in _by_price(history, start, _moves(history, start)):
        design = _moved(history, path[-1], move)
        if design is not None and design != path[-1] and _gain(history, path[-1], design) > 0:
            path.append(design)
    return path


def _path(history: History) -> Iterator[Design]:
    """The designs on the way, as far as what is known tells it."""
    grid = history.grid
    start = next(iter(grid.stages()), None)
    if start is None:
        return
    yield start
    moves = _moves(history, start)
    if history.predicted is None:
        yield from moves.values()
    alone = {start, *moves.values()} if history.predicted is None else {start}
    if not history.values.keys() >= alone:
        return  # others are at it
    yield from _descent(history, start, _by_price(history, start, moves))


def _moves(history: History, start: Design) -> dict[Move, Design]:
    """Every other choice of every axis, with the design that it makes of the start alone."""
    found = {}
    for axis, each in enumerate(history.grid.axes):
        for choice in range(len(each.choices)):
            moved = _moved(history, start, (axis, choice))
            if moved is not None and moved != start:
                found[(axis, choice)] = moved
    return found


def _by_price(history: History, start: Design, moves: dict[Move, Design]) -> list[Move]:
    priced = {move: _price(history, start, move, design) for move, design in moves.items()}
    return sorted(priced, key=lambda move: (priced[move], move))


def _descent(history: History, start: Design, moves: list[Move]) -> Iterator[Design]:
    """The moves in their order, each on top of those before it."""
    current = start
    for move in moves:
        design = _moved(history, current, move)
        if design is None or design == current or _gain(history, current, design) <= 0:
            continue
        yield design
        if design not in history.values:
            return
        if history.objectives.is_feasible(history.values[design]):
            current = design


def _moved(history: History, design: Design, move: Move) -> Design | None:
    axis, choice = move
    return history.grid.repaired((*design[:axis], choice, *design[axis + 1 :]))


def _price(history: History, start: Design, move: Move, design: Design) -> float:
    """Loss of the first objective for a unit gained of the others."""
    axis, choice = move
    if history.predicted is not None:
        row = history.predicted[axis]
        loss = row[choice] - row[start[axis]]
    else:
        new, old = (history.objectives.losses(history.values[d])[0] for d in (design, start))
        loss = 0.0 if new == old else new - old  # also of two that are infinite
    gain = _gain(history, start, design)
    if loss <= 0:
        return -gain  # for nothing: the largest gain first
    return loss / gain if gain > 0 else math.inf


def _gain(history: History, before: Design, after: Design) -> float:
    """How much smaller the losses of the other objectives are, in shares of what they were; 1 where
    there is no other."""
    directions = dict(list(history.objectives.directions.items())[1:])
    old, new = history.figures(before), history.figures(after)
    known = [name for name in directions if name in old and name in new]
    if not known:
        return 1.0
    signs = {name: -1.0 if directions[name] == "max" else 1.0 for name in known}
    shares = (signs[n] * (old[n] - new[n]) / (abs(old[n]) or 1.0) for n in known)
    return math.fsum(share for share in shares if math.isfinite(share))
