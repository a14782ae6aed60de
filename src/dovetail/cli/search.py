"""`dovetail search`: the designs of an experiment's space that no other beats."""

from __future__ import annotations

from typing import TYPE_CHECKING, Annotated

import typer

from dovetail._plain import plain
from dovetail.cli.console import say, say_json, table
from dovetail.cli.interrupt import resumable
from dovetail.cli.options import Files, Json, Out, Set, Threads, overrides

if TYPE_CHECKING:
    from dovetail.search import Front

__all__ = ["search"]

Workers = Annotated[
    int, typer.Option(metavar="N", min=1, help="Processes that work on the search together.")
]
Trials = Annotated[
    int | None,
    typer.Option(
        metavar="N",
        min=1,
        help="Short for --set search.trials=N: designs to evaluate, in all.",
        show_default=False,
    ),
]
Strategy = Annotated[
    str | None,
    typer.Option(
        metavar="NAME",
        help="Short for --set search.strategy=NAME: nsga2, tpe, greedy, exhaustive or mcts.",
        show_default=False,
    ),
]
Where = Annotated[
    str, typer.Option(metavar="NAME", help="Where workers run: processes, or ray on a cluster.")
]


def search(
    files: Files,
    set_: Set = None,
    workers: Workers = 1,
    trials: Trials = None,
    strategy: Strategy = None,
    executor: Where = "processes",
    threads: Threads = None,
    out: Out = None,
    json: Json = False,
) -> None:
    """Search the space of the file for designs that no other beats.

    Writes pareto.csv, pareto.svg and the recipe of every design on the front, which `dovetail run`
    repeats to the same numbers. Every result is in study.journal at once: stop whenever you like,
    and give the same command to go on; give it again elsewhere, on the same folder, to help.
    `dovetail report` on the folder draws every design.

    \b
    Examples:
      dovetail search study.yaml --workers 2
      dovetail search study.yaml --strategy tpe --trials 60 --out out/study
    """
    from dovetail.experiment.search import search as search_experiment

    changes = overrides(set_, threads)
    changes += [] if trials is None else [f"search.trials={trials}"]
    changes += [] if strategy is None else [f"search.strategy={strategy}"]
    with resumable("every finished trial is in the journal; the same command goes on"):
        front = search_experiment(
            files,
            overrides=changes,
            out=out,
            workers=workers,
            executor=executor,
            progress=not json,
        )
    if json:
        say_json(plain(front.to_dict()))
    else:
        _print(front)
    if not front.points:
        raise typer.Exit(1)


def _print(front: Front) -> None:
    points = front.points
    names = list(points[0].design) if points else []
    varied = [name for name in names if len({trial.design[name] for trial in points}) > 1]
    figures = front.objectives.names
    shown = table(
        f"{len(points)} of {len(front.trials)} designs are on the front; {front.size:,} can be",
        ">Trial",
        *(f">{name}" for name in figures),
        "Choices that differ",
    )
    for trial in points:
        chosen = "\n".join(f"{name}: {trial.design[name]}" for name in varied)
        shown.add_row(str(trial.number), *(f"{trial.values[name]:.4g}" for name in figures), chosen)
    if points:
        say(shown, "")
    else:
        say(f"No design of {len(front.trials)} meets every constraint:")
        say(*(f"  {line}" for line in front.shortfalls().values()))
    say(f"{front.folder}: pareto.csv, pareto.svg, recipes/TRIAL.yaml, study.journal")
