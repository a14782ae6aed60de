"""`dovetail run`: the whole experiment, from its file to its report."""

from __future__ import annotations

from pathlib import Path
from typing import TYPE_CHECKING, Annotated

import typer
from rich.table import Table
from rich.text import Text

from dovetail.cli.console import NONE, decibels, percent, ratio, say, say_error, say_json, table
from dovetail.cli.options import File, Json, Set

if TYPE_CHECKING:
    from dovetail.analysis import Interval
    from dovetail.experiment import RunResult

__all__ = ["run"]

_PLOT = 26


def run(
    file: File,
    set_: Set = None,
    train: Annotated[
        bool, typer.Option("--train", help="Train a built-in model from scratch first.")
    ] = False,
    out: Annotated[
        Path | None, typer.Option(help="Folder for the report; else `report` of the file.")
    ] = None,
    json: Json = False,
    threads: Annotated[
        int | None, typer.Option(min=1, help="Threads to compute with; else torch's choice.")
    ] = None,
) -> None:
    """Run an experiment: measure fp32, the arithmetic of the file, and the retrained network.

    Exit code 1 when a condition of `require` is missed, 2 when something is refused.
    """
    import torch

    from dovetail.experiment import run as run_experiment

    if threads is not None:
        torch.set_num_threads(threads)
    result = run_experiment(
        file, overrides=set_ or (), from_scratch=train, out=out, progress=not json
    )
    if json:
        say_json(result.to_dict())
    else:
        _print(result, file)
    for sentence in result.missed:
        say_error(f"required: {sentence}")
    if result.missed:
        raise typer.Exit(1)


def _print(result: RunResult, file: Path) -> None:
    weights = "trained here" if result.trained else "trained weights"
    say(
        Text.assemble((str(file), "bold")),
        f"{result.model} ({weights}) on {result.data}; seed {result.seed}",
        "",
        _layers(result),
        _stages(result),
    )
    if result.report is not None:
        say(f"{result.report / 'report.html'}  with report.json and recipe.yaml beside it")


def _layers(result: RunResult) -> Table:
    shown = table(
        "Layers",
        "Layer",
        "What it got",
        "From",
        ">Products\nchanged",
        ">SQNR dB\nalone",
        ">SQNR dB\nso far",
        ">Energy",
        caption="alone: on the same inputs; so far: with everything before it emulated too. "
        "Energy: of the products, relative to exact ones.",
    )
    for row in result.layers:
        shown.add_row(
            row.key,
            row.arithmetic,
            _rules(row.rule, result.source),
            percent(row.changed),
            decibels(row.isolated_db),
            decibels(row.accumulated_db),
            ratio(row.energy),
        )
    total = result.layers.total
    shown.add_section()
    shown.add_row(
        "network",
        f"{total.macs:,} products",
        "",
        percent(total.changed),
        "",
        decibels(total.output_db),
        ratio(total.energy),
        style="bold",
    )
    return shown


def _rules(text: str, source: str) -> str:
    """`digits.yaml:5, digits.yaml:6` as `digits.yaml:5, 6`."""
    first, *rest = text.split(", ")
    return ", ".join([first, *(label.removeprefix(f"{source}:") for label in rest)])


def _stages(result: RunResult) -> Table:
    low = min(stage.accuracy.low for stage in result.stages)
    high = max(stage.accuracy.high for stage in result.stages)
    shown = table(
        "Accuracy",
        "Stage",
        ">Accuracy",
        "95 % interval",
        f"{100 * low:.0f} %".ljust(_PLOT - 6) + f"{100 * high:.0f} %".rjust(6),
        ">Agrees\nwith fp32",
        ">Logits\nSQNR dB",
        ">Energy",
        caption=f"On {result.stages[0].accuracy.n:,} test samples.",
    )
    for stage in result.stages:
        first = stage is result.stages[0]
        shown.add_row(
            stage.name,
            percent(stage.accuracy.value),
            f"{100 * stage.accuracy.low:.1f} to {100 * stage.accuracy.high:.1f}",
            _plot(stage.accuracy, low, high),
            NONE if first else percent(stage.agreement),
            NONE if first else decibels(stage.sqnr_db),
            ratio(stage.energy),
        )
    return shown


def _plot(interval: Interval, low: float, high: float) -> Text:
    """The interval as a line with a dot at the value, on a scale that all stages share."""
    span = (high - low) or 1.0

    def column(value: float) -> int:
        return round((value - low) / span * (_PLOT - 1))

    left, dot, right = column(interval.low), column(interval.value), column(interval.high)
    line = [" "] * _PLOT
    line[left : right + 1] = "─" * (right + 1 - left)
    line[dot] = "●"
    return Text("".join(line), style="cyan", no_wrap=True)
