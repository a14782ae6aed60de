"""What a call of a compiled model costs beside its kernel, in microseconds.

The kernels here multiply eight numbers by each parameter, which takes nanoseconds: all that is left
is what a call costs. ``same``: the arguments are of the kind of the call before. ``in turn``: two
shapes take turns. ``training``: forward and backward, with torch's own engine. Time is the
processor's, of one thread.
"""

from __future__ import annotations

import statistics
import time
from collections.abc import Callable, Sequence

import torch
from rich.progress import Progress
from rich.table import Table
from torch import Tensor, nn

import dovetail as dv
from benchmarks import report
from benchmarks.timing import seconds

LIMIT = 5.0
COUNTS = (0, 2, 10, 60)
#: Calls in one sample: a millisecond or more.
CALLS = 1000


class Scales(nn.Module):
    """Eight numbers, multiplied by each of so many parameters."""

    def __init__(self, count: int) -> None:
        super().__init__()
        self.scales = nn.ParameterList(nn.Parameter(torch.ones(8)) for _ in range(count))

    def forward(self, x: Tensor) -> Tensor:
        for scale in self.scales:
            x = x * scale
        return torch.relu(x)


def _microseconds(call: Callable[[], object], rounds: int) -> str:
    found = [seconds(call, time.thread_time, CALLS) / CALLS for _ in range(rounds + 1)]
    return f"{1e6 * statistics.median(found[1:]):.1f}"


def measure(rounds: int, progress: Progress) -> Table:
    """One row per number of parameters."""
    table = Table(title="microseconds of a call")
    for header in ("parameters", "eager", "same", "in turn", "training", "eager training"):
        table.add_column(header, justify="right")
    task = progress.add_task("calls", total=len(COUNTS))
    for count in COUNTS:
        model, x, other = Scales(count), torch.randn(1, 8), torch.randn(2, 8)
        fast = dv.compile(model.eval(), x)
        trained = dv.compile(model, x.clone().requires_grad_(), backward=True)
        with torch.no_grad():
            shown = [
                _microseconds(lambda model=model, x=x: model(x), rounds),
                _microseconds(lambda fast=fast, x=x: fast(x), rounds),
                _in_turn(fast, x, other, rounds),
            ]
        given = x.clone().requires_grad_()
        for each in (trained, model):
            step = lambda each=each, given=given: each(given).backward(given)  # noqa: E731
            shown.append(_microseconds(step, rounds))
        table.add_row(str(count), *shown)
        progress.advance(task)
    return table


def _in_turn(fast: nn.Module, x: Tensor, other: Tensor, rounds: int) -> str:
    """Of each of the two calls."""
    return f"{float(_microseconds(lambda: (fast(x), fast(other)), rounds)) / 2:.1f}"


def run(threads: Sequence[int], levels: Sequence[str], rounds: int, save: bool) -> None:
    """Measure, print, and with ``save`` write ``results/calls.md``."""
    del threads, levels  # what is measured is one thread, and hardly any arithmetic
    report.run(
        "calls",
        "Compiled models: what a call costs beside its kernel",
        [
            "Microseconds of the processor; the arithmetic takes nanoseconds. A call of a compiled "
            f"model should take {LIMIT:g} more than its kernel.",
            "`same`: arguments of the kind of the call before; `in turn`: of two kinds by turns; "
            "`training`: forward and backward.",
        ],
        lambda count, progress: measure(rounds, progress),
        [1],
        save,
    )
