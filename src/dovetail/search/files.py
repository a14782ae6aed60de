"""The folder of a search: the front as a table and a picture, and the recipe of every point."""

from __future__ import annotations

import csv
import io
from collections.abc import Callable
from pathlib import Path

from dovetail.search.figure import svg
from dovetail.search.front import Front, Trial

__all__ = ["JOURNAL", "as_csv", "write"]

JOURNAL = "study.journal"


def write(front: Front, folder: Path, recipe: Callable[[Trial], str]) -> None:
    """Write ``pareto.csv``, ``pareto.svg`` and ``recipes/<trial>.yaml``; those of points that are
    none any more are taken away. ``recipe`` gives a trial's text."""
    recipes = folder / "recipes"
    recipes.mkdir(parents=True, exist_ok=True)
    (folder / "pareto.csv").write_text(as_csv(front), encoding="utf-8")
    (folder / "pareto.svg").write_text(svg(front), encoding="utf-8")
    wanted = {f"{trial.number}.yaml": trial for trial in front}
    for old in recipes.glob("*.yaml"):
        if old.name not in wanted:
            old.unlink()
    for name, trial in wanted.items():
        (recipes / name).write_text(recipe(trial), encoding="utf-8")


def as_csv(front: Front) -> str:
    """The front, one line a trial: its number, its figures to the last bit, its choices."""
    out = io.StringIO()
    names = list(front.trials[0].design) if front.trials else []
    writer = csv.writer(out, lineterminator="\n")
    writer.writerow(["trial", *front.objectives.names, *names])
    for trial in front:
        figures = (repr(trial.values[name]) for name in front.objectives.names)
        writer.writerow([trial.number, *figures, *(trial.design[name] for name in names)])
    return out.getvalue()
