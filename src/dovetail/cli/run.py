"""`dovetail run`: the whole experiment, from its file to its report."""

from __future__ import annotations

from pathlib import Path
from typing import TYPE_CHECKING, Annotated

import typer
from rich.table import Table
from rich.text import Text

from dovetail._plain import energy
from dovetail.cli.console import (
    NONE,
    decibels,
    percent,
    ratio,
    say,
    say_error,
    say_json,
    table,
    width,
)
from dovetail.cli.export import exported_line
from dovetail.cli.options import Json, Out, Set, Threads, overrides
from dovetail.errors import DovetailError

if TYPE_CHECKING:
    from dovetail.analysis import Interval
    from dovetail.costs import CostReport
    from dovetail.experiment import RunResult

__all__ = ["run"]

_PLOT = 20
_ROOM_TO_PLOT = 94  # columns; a figure cut short would lie


def run(
    files: Annotated[
        list[Path] | None,
        typer.Argument(
            metavar="FILE",
            help="The experiment file. Each further file is laid over those before it, key by "
            "key: its keys count, its rules are appended.",
            show_default=False,
        ),
    ] = None,
    set_: Set = None,
    train: Annotated[
        bool, typer.Option("--train", help="Train a built-in model from scratch first.")
    ] = False,
    out: Out = None,
    json: Json = False,
    threads: Threads = None,
    check: Annotated[
        Path | None,
        typer.Option(
            metavar="FOLDER",
            help="Instead of a file: run a finished report again and compare every number.",
            show_default=False,
        ),
    ] = None,
) -> None:
    """Run an experiment and write its report.

    Measures the network in fp32, with exact products, under the rules of the file, and retrained.
    Exit code 1 when a condition of `require` is missed, or when --check finds a difference. A
    retraining that is interrupted goes on where it was when the same command is given again.

    \b
    Examples:
      dovetail run examples/digits.yaml
      dovetail run examples/digits.yaml --set rules.1.mul=exact --out out/exact
      dovetail run base.yaml overlay.yaml --json
      dovetail run --check out/digits
    """
    from dovetail.experiment import run as run_experiment

    changes = overrides(set_, threads)
    if check is not None:
        if files or changes or train or out:
            raise DovetailError("--check runs what the folder's report holds; give only the folder")
        _check(check, json)
        return
    result = run_experiment(
        files or (), overrides=changes, from_scratch=train, out=out, progress=not json
    )
    if json:
        say_json(result.to_dict())
    else:
        _print(result)
    for sentence in result.missed:
        say_error(sentence)
    if result.missed:
        raise typer.Exit(1)


def _check(folder: Path, json: bool) -> None:
    from dovetail.experiment import check as check_report

    found = check_report(folder, progress=not json)
    if json:
        say_json({"folder": str(folder), "differences": found})
    elif not found:
        say(f"{folder}: every number is the same")
    for sentence in found:
        say_error(sentence)
    if found:
        raise typer.Exit(1)


def _print(result: RunResult) -> None:
    weights = "trained here" if result.trained else "trained weights"
    say(
        Text(result.source, style="bold"),
        f"{result.model} ({weights}) on {result.data}; seed {result.seed}",
        "",
        _layers(result),
        "",
        _stages(result),
        "",
    )
    if result.cost is not None:
        say(_energy(result.cost))
    say(f"Report: {result.report / 'report.html'} (beside it report.json and recipe.yaml)")
    for each in result.exports:
        say(exported_line(each))
    for sentence in result.met:
        say(f"Required: {sentence}")


def _energy(cost: CostReport) -> str:
    """The energies of one batch on one line; 'dovetail cost' tells them by layer."""
    parts = (
        ("products", cost.total("multiply_pj")),
        ("sums", cost.total("accumulate_pj")),
        ("memory", cost.memory_pj),
    )
    shown = (f"{what} {energy(pj)}" for what, pj in parts)
    return f"Energy of a batch: {', '.join(shown)}; 'dovetail cost' tells more"


def _layers(result: RunResult) -> Table:
    shown = table(
        "Layers",
        "Layer",
        "What it got",
        f"Rule in\n{result.source}",
        ">Products\nchanged",
        ">SQNR dB\nalone",
        ">SQNR dB\nso far",
        ">Energy",
        caption="SQNR alone: on the inputs it got; so far: against the exact network. "
        "Energy: relative to exact.",
    )
    for row in result.layers:
        shown.add_row(
            row.key,
            row.arithmetic,
            f"line {row.rule.replace(f'{result.source}:', '')}",
            percent(row.changed),
            decibels(row.isolated_db),
            decibels(row.accumulated_db),
            ratio(row.energy),
        )
    total = result.layers.total
    shown.add_section()
    shown.add_row(
        "network",
        f"{total.macs:,} products in a batch",
        "",
        percent(total.changed),
        "",
        decibels(total.output_db),
        ratio(total.energy),
        style="bold",
    )
    return shown


def _stages(result: RunResult) -> Table:
    low = min(stage.accuracy.low for stage in result.stages)
    high = max(stage.accuracy.high for stage in result.stages)
    plotted = width() >= _ROOM_TO_PLOT
    has_perplexity = result.stages[0].perplexity is not None
    left, right = f"{100 * low:.1f}", f"{100 * high:.1f}"
    shown = table(
        f"Accuracy on {result.stages[0].accuracy.n:,} test samples",
        "Stage",
        ">Accuracy",
        "95 % interval",
        *([f"{left}{right:>{_PLOT - len(left)}}"] if plotted else ()),
        *([">Perplexity"] if has_perplexity else ()),
        ">Agrees\nwith fp32",
        ">Logits\nSQNR dB",
        ">Energy",
    )
    reference = result.stages[0].accuracy
    for stage in result.stages:
        first = stage is result.stages[0]
        shown.add_row(
            stage.name,
            Text(percent(stage.accuracy.value), style=_verdict(stage.accuracy, reference)),
            f"{100 * stage.accuracy.low:.1f} to {100 * stage.accuracy.high:.1f}",
            *([_plot(stage.accuracy, low, high)] if plotted else ()),
            *([f"{stage.perplexity:.2f}"] if stage.perplexity is not None else ()),
            NONE if first else percent(stage.agreement),
            NONE if first else decibels(stage.sqnr_db),
            ratio(stage.energy),
        )
    return shown


def _verdict(accuracy: Interval, reference: Interval) -> str:
    """Red where the loss is more than chance, green otherwise."""
    return "red" if accuracy.high < reference.low else "green"


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
