"""The folder of a search: the front as a table and a picture, the recipe of every point, a page."""

from __future__ import annotations

import csv
import io
import json
from collections.abc import Callable
from pathlib import Path

from dovetail._files import write as write_whole
from dovetail._plain import plain
from dovetail.analysis.figures import Design, pareto
from dovetail.search.front import Front, Trial

__all__ = ["JOURNAL", "as_csv", "svg", "write"]

JOURNAL = "study.journal"


def write(front: Front, folder: Path, recipe: Callable[[Trial], str]) -> None:
    """Write ``pareto.csv``, ``pareto.svg``, ``search.json`` (every trial, for reports) and
    ``recipes/<trial>.yaml``; those of points that are none any more are taken away. ``recipe``
    gives a trial's text."""
    recipes = folder / "recipes"
    recipes.mkdir(parents=True, exist_ok=True)
    text = json.dumps(plain(front.to_dict()), indent=1, allow_nan=False)
    wanted = {f"{trial.number}.yaml": recipe(trial) for trial in front}
    write_whole(
        {
            folder / "pareto.csv": as_csv(front),
            folder / "pareto.svg": svg(front),
            folder / "search.json": text + "\n",
            **{recipes / name: words for name, words in wanted.items()},
        }
    )
    for old in recipes.glob("*.yaml"):
        if old.name not in wanted:
            old.unlink(missing_ok=True)  # somebody else ends the same search


def svg(front: Front) -> str:
    """The first two objectives of every design; the front as steps."""
    points = {trial.number for trial in front.points}
    designs = [
        Design(t.number, t.values, t.design, t.number in points, t.feasible) for t in front.trials
    ]
    return pareto(designs, front.objectives.directions).svg() + "\n"


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
