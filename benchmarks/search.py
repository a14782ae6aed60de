"""A search in evaluation passes: what a trial costs beside running the network in float32.

The digits CNN, a format and a multiplier for each of its six layers, 60 trials in memory by one
worker. A trial is a plan, ranges, packed weights where they are new, the emulated network on the
719 test images, and what the strategy computes; the surrogate's attribution is in its search.
"""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

import torch
from rich.progress import Progress
from rich.table import Table
from torch import nn

import dovetail as dv
from benchmarks import report
from benchmarks.timing import clock_of, ratios, seconds
from dovetail.kernels import native

TRIALS = 60
LIMIT = 180.0  # seconds for all of them on two cores
SPACE = dv.Space(
    each={
        "*.input+weight": ["int8", "int6", "int4"],
        "*.mul": ["exact", "mul8s_1KV9", "mul8s_1KVM", "mul8s_1L2J", "mul8s_1KX5", "mul8s_1L2L"],
    }
)
RECIPE = dv.Recipe(dv.rule("*", input="int8", weight="int8", acc="int32"))
WAYS: dict[str, dict[str, Any]] = {
    "nsga2": {},
    "nsga2, surrogate": {"surrogate": True},
    "tpe": {"strategy": "tpe"},
    "mcts": {"strategy": "mcts"},
    "greedy": {"strategy": "greedy"},
}


def measure(threads: int, levels: Sequence[str], progress: Progress) -> Table:
    """A row per level: a pass of the emulated network, and a trial of each strategy."""
    named = f"{threads} thread{'s' if threads > 1 else ''}"
    table = Table(title=f"passes in float32 that a trial takes, {named}")
    for header in ("level", "emulated pass", *WAYS, f"{TRIALS} trials of nsga2"):
        table.add_column(header)
    task = progress.add_task(named, total=len(levels) * len(WAYS))
    for level in levels:
        native.set_isa(level)
        found = {}
        for name, options in WAYS.items():
            found[name] = _trial(options, threads)
            progress.advance(task)
        cells = [f"{taken / plain:.1f}" for taken, plain in found.values()]
        whole = f"{TRIALS * found['nsga2'][0]:.0f} s"
        table.add_row(level, f"{_emulated(threads):.1f}", *cells, whole)
    return table


def _network() -> tuple[nn.Module, Any]:
    model = dv.zoo.build("digits-cnn")
    model.load_state_dict(dv.zoo.checkpoint("digits-cnn"))
    return model.eval(), dv.zoo.data.load("digits")


@torch.no_grad()
def _pass(model: nn.Module, data: Any) -> None:
    for images, _ in data.test:
        model(images)


def _emulated(threads: int) -> float:
    plain, data = _network()
    model, _ = _network()
    example = next(iter(data.test))[0]
    dv.apply_(model, RECIPE, example)
    found = ratios(
        lambda: _pass(plain, data),
        {"emulated": lambda: _pass(model, data)},
        7,
        clock=clock_of(threads),
    )
    return found["emulated"]


def _trial(options: dict[str, Any], threads: int) -> tuple[float, float]:
    """Seconds of a trial, and of the passes in float32 before and after the search."""
    model, data = _network()
    clock = clock_of(threads)
    _pass(model, data)
    before = seconds(lambda: _pass(model, data), clock, 5) / 5
    taken = seconds(lambda: _search(model, data, options), clock)
    after = seconds(lambda: _pass(model, data), clock, 5) / 5
    return taken / TRIALS, (before + after) / 2


def _search(model: nn.Module, data: Any, options: dict[str, Any]) -> None:
    front = dv.search(
        model,
        SPACE,
        data.test,
        example=next(iter(data.calibration))[0],
        recipe=RECIPE,
        calibration=data.calibration,
        objectives={"accuracy": "max", "energy_pj": "min"},
        trials=TRIALS,
        **options,
    )
    assert len(front.trials) == TRIALS


def run(threads: Sequence[int], levels: Sequence[str], rounds: int, save: bool) -> None:
    """Measure, print, and with ``save`` write ``results/search.md``; in one round."""
    del rounds
    report.run(
        "search",
        f"A search of {TRIALS} trials: what each costs beside the network in float32",
        [
            "The digits CNN on 719 images, 18 choices for each of 6 layers, one worker, in memory. "
            f"Limit of {TRIALS} trials: {LIMIT:.0f} s on two cores.",
            report.CLOCKS,
        ],
        lambda count, progress: measure(count, levels, progress),
        threads,
        save,
    )
