"""What a search found: every design that was evaluated, and the ones that no other beats."""

from __future__ import annotations

import io
from collections.abc import Iterator, Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from rich.console import Console
from rich.table import Table

from dovetail.errors import DovetailError
from dovetail.recipe import Recipe
from dovetail.search.objectives import Objectives

__all__ = ["Front", "Trial"]


@dataclass(frozen=True)
class Trial:
    """One design: its choices by the name of their axis, its figures, its recipe, and how many
    threads it was evaluated with."""

    number: int
    design: Mapping[str, str]
    values: Mapping[str, float]
    recipe: Recipe
    feasible: bool = True
    threads: int | None = None

    def to_dict(self) -> dict[str, Any]:
        """Plain values, for JSON."""
        return {
            "trial": self.number,
            "values": dict(self.values),
            "feasible": self.feasible,
            "design": dict(self.design),
        }


@dataclass(frozen=True)
class Front:
    """The designs that no other beats, in the order of the first objective, the best first.

    ``trials`` are all that were evaluated, ``size`` is how many designs the space has, ``repeats``
    how often one was asked for that had been evaluated already, ``dropped`` how many trials were
    given up: cut off, or passed over because they could not win. ``complete`` tells whether all
    trials were carried out.
    """

    objectives: Objectives
    trials: tuple[Trial, ...]
    size: int
    repeats: int = 0
    dropped: int = 0
    complete: bool = True
    folder: Path | None = None

    @property
    def points(self) -> tuple[Trial, ...]:
        """The front. Of designs with the same objectives the earliest stands for all."""
        values = {trial.number: trial.values for trial in self.trials}
        first: dict[tuple[float, ...], int] = {}
        for number in sorted(self.objectives.front(values)):
            first.setdefault(self.objectives.losses(values[number]), number)
        return tuple(self[first[losses]] for losses in sorted(first))

    def __iter__(self) -> Iterator[Trial]:
        return iter(self.points)

    def __len__(self) -> int:
        return len(self.points)

    def __getitem__(self, number: int) -> Trial:
        """A trial by its number."""
        for trial in self.trials:
            if trial.number == number:
                return trial
        raise KeyError(number)

    def best(self, name: str) -> Trial:
        """The point with the best figure of one objective."""
        if name not in self.objectives.directions:
            names = ", ".join(self.objectives.directions)
            raise DovetailError(f"'{name}' is no objective of this search; it has {names}")
        if not self.points:
            raise DovetailError("no design met every constraint, so there is no best one")
        place = list(self.objectives.directions).index(name)
        return min(self.points, key=lambda trial: self.objectives.losses(trial.values)[place])

    def shortfalls(self) -> dict[str, str]:
        """For every constraint in words how many designs meet it, or which comes nearest."""
        told = {}
        for name, bound in self.objectives.bounds.items():
            missed = [(self.objectives.violations(t.values)[name], t) for t in self.trials]
            met = sum(by <= 0 for by, _ in missed)
            told[name] = f"{met} of {len(missed)} designs have {name} {bound}"
            if not met and missed:
                _, nearest = min(missed, key=lambda pair: pair[0])
                told[name] += f"; nearest is trial {nearest.number}, {nearest.values[name]:.6g}"
        return told

    def to_dict(self) -> dict[str, Any]:
        """Plain values, for JSON."""
        return {
            "objectives": dict(self.objectives.directions),
            "constraints": dict(self.objectives.bounds),
            "size": self.size,
            "complete": self.complete,
            "repeats": self.repeats,
            "dropped": self.dropped,
            "front": [trial.number for trial in self.points],
            "trials": [trial.to_dict() for trial in self.trials],
        }

    def table(self, width: int = 100) -> str:
        """The front as a table; of its designs what differs among them."""
        points = self.points
        names = [
            name
            for name in (points[0].design if points else ())
            if len({trial.design[name] for trial in points}) > 1
        ]
        table = Table(box=None, pad_edge=False, header_style="bold")
        for name in ("trial", *self.objectives.names):
            table.add_column(name, justify="right", no_wrap=True)
        table.add_column("choices that differ", overflow="fold")
        for trial in points:
            figures = (f"{trial.values[name]:.4g}" for name in self.objectives.names)
            choices = ", ".join(f"{name} {trial.design[name]}" for name in names)
            table.add_row(str(trial.number), *figures, choices or "none")
        out = io.StringIO()
        Console(file=out, width=width, color_system=None).print(table)
        if not points:
            out.write("".join(f"{line}\n" for line in self.shortfalls().values()))
        return out.getvalue()

    def __str__(self) -> str:
        return self.table()
