"""GPTQ of one linear layer: seconds, and a ratio to what every such method has to compute.

A layer of 3072 inputs and 768 outputs sees 128 sequences of 512 in 16 batches. The baseline is the
layer's own float32 result and the upper half of ``X^T X`` for all of them, which is 0.9 * 10^12
floating-point operations; GPTQ sums that in float64, inverts it and rounds the columns one after
the other.
"""

from __future__ import annotations

import statistics
from collections.abc import Sequence
from functools import partial

import torch
from rich.progress import Progress
from rich.table import Table
from torch import Tensor, nn

import dovetail as dv
from benchmarks import report
from benchmarks.timing import clock_of, seconds
from dovetail.kernels import native

INPUTS, OUTPUTS, BATCHES, SEQUENCES, LENGTH = 3072, 768, 16, 8, 512
LIMIT = 15
RULES = {
    "int4": {"weight": "int4"},
    "int4(group=64)": {"weight": "int4(group=64)"},
    "mxfp4": {"weight": "mxfp4"},
    "int4, 2:4": {"weight": "int4", "sparsity": "2:4"},
}
STRIP = 256


def _needed(layer: nn.Linear, batches: Sequence[Tensor]) -> None:
    """What nobody is spared: the layer on all samples, and the half of ``X^T X``."""
    total = torch.zeros(INPUTS, INPUTS)
    for batch in batches:
        layer(batch)
        rows = batch.flatten(0, -2)
        for a in range(0, INPUTS, STRIP):
            total[a : a + STRIP, a:].addmm_(rows[:, a : a + STRIP].mT, rows[:, a:])


def _solve(rule: dict[str, str], batches: Sequence[Tensor]) -> None:
    torch.manual_seed(0)
    net = nn.Sequential(nn.Linear(INPUTS, OUTPUTS))
    dv.apply_(net, dv.Recipe(dv.rule("*", input="int8", **rule)), batches[0])
    dv.gptq(net, batches)


@torch.no_grad()
def measure(threads: int, level: str, rounds: int, progress: Progress) -> Table:
    """One table: a row per format."""
    native.set_isa(level)
    generator = torch.Generator().manual_seed(0)
    batches = [torch.randn(SEQUENCES, LENGTH, INPUTS, generator=generator) for _ in range(BATCHES)]
    layer = nn.Linear(INPUTS, OUTPUTS)
    clock = clock_of(threads)
    table = Table(title=f"{level}, {threads} thread{'s' if threads > 1 else ''}")
    for header in ("weight", "seconds", "/ the layer and half of X^T X"):
        table.add_column(header)
    task = progress.add_task(f"{threads} threads", total=len(RULES) * rounds)
    for name, rule in RULES.items():
        taken, times = [], []
        for _ in range(rounds):
            needed = seconds(partial(_needed, layer, batches), clock)
            taken.append(seconds(partial(_solve, rule, batches), clock))
            times.append(taken[-1] / needed)
            progress.advance(task)
        table.add_row(name, f"{statistics.median(taken):.1f}", f"{statistics.median(times):.2f}")
    return table


def run(threads: Sequence[int], levels: Sequence[str], rounds: int, save: bool) -> None:
    """Measure, print, and with ``save`` write ``results/gptq.md``: of ``levels`` the last."""
    shape = f"{OUTPUTS} x {INPUTS}, {BATCHES * SEQUENCES} x {LENGTH} samples."
    report.run(
        "gptq",
        "GPTQ of a layer: seconds, and the ratio to what it cannot do without",
        [
            f"A float32 weight of {shape}",
            report.CLOCKS,
            f"Limit on one core: {LIMIT} seconds.",
        ],
        lambda count, progress: measure(count, levels[-1], rounds, progress),
        threads,
        save,
    )
