"""Every design of a small space, one after the other."""

from __future__ import annotations

import random
from dataclasses import dataclass

from dovetail.errors import DovetailError
from dovetail.search.grid import Design, Grid
from dovetail.search.strategies.base import History

__all__ = ["MOST", "Exhaustive"]

#: The largest space that is gone through.
MOST = 4096


@dataclass(frozen=True)
class Exhaustive:
    """The designs in the order of their choices."""

    @staticmethod
    def check(grid: Grid) -> None:
        """Refuse a space that is too large."""
        if grid.size > MOST:
            raise DovetailError(
                f"the space has {grid.size:,} designs, and exhaustive goes through {MOST:,} at "
                "most: give it fewer choices or let operations share them (over, share), or take "
                "the strategy nsga2"
            )

    def propose(self, history: History, rng: random.Random) -> Design | None:  # noqa: ARG002
        """The first that nobody evaluated."""
        return next((d for d in history.grid.designs() if not history.knows(d)), None)
