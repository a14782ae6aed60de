"""Accumulators that act at every step, against torch float32.

A linear layer of 512 rows by 1024 by 1024. Each figure is the time of a whole emulated module
(quantise or cast, multiply, accumulate, dequantise, add the bias; weights packed beforehand) over
that of the same module in float32, in one process.
"""

from __future__ import annotations

import copy
from collections.abc import Sequence
from functools import partial

import numpy as np
import torch
from rich.progress import Progress
from rich.table import Table
from torch import nn

import dovetail as dv
from benchmarks import report
from benchmarks.timing import clock_of, ratios
from dovetail.kernels import native

CODES = (
    *("int32", "int16", "int16(saturate)", "int20(saturate)", "int16(saturate, order=tree)"),
    *("loa(bits=24, low=6)", "fp16", "bf16(chunk=64)"),
)
VALUES = ("fp32", "fp16", "bf16(chunk=64)")


def rules() -> dict[str, dict[str, object]]:
    """What is measured: operands, multiplier and accumulator."""
    table = np.random.default_rng(0).integers(-16384, 16384, (256, 256))
    kinds = {"int8, exact": "exact", "int8, table": dv.multiplier(table, signed=True)}
    found: dict[str, dict[str, object]] = {
        f"{kind} | {acc}": {"input": "int8", "weight": "int8", "mul": mul, "acc": acc}
        for kind, mul in kinds.items()
        for acc in CODES
    }
    bf16 = {"input": "bf16", "weight": "bf16"}
    return found | {f"bf16 values | {acc}": {**bf16, "acc": acc} for acc in VALUES}


def measure(threads: int, levels: Sequence[str], rounds: int, progress: Progress) -> Table:
    """One table of ratios: a row per operands and accumulator, a column per level."""
    title = f"time / torch float32 time, {threads} thread{'s' if threads > 1 else ''}"
    table = Table(title=title)
    for header in ("operands", "accumulator", *levels):
        table.add_column(header)
    exact, x = nn.Sequential(nn.Linear(1024, 1024)).eval(), torch.randn(512, 1024)
    task = progress.add_task(f"{threads} threads", total=len(rules()))
    for name, rule in rules().items():
        calls = {}
        for level in levels:
            native.set_isa(level)
            model = copy.deepcopy(exact)
            dv.apply_(model, dv.Recipe(dv.rule("*", **rule)), x)
            calls[level] = partial(model, x)
        with torch.no_grad():
            found = ratios(
                *(partial(exact, x), calls, rounds),
                between=native.set_isa,
                clock=clock_of(threads),
            )
        table.add_row(*name.split(" | "), *(f"{found[level]:.2f}" for level in levels))
        progress.advance(task)
    return table


def run(threads: Sequence[int], levels: Sequence[str], rounds: int, save: bool) -> None:
    """Measure, print, and with ``save`` write ``results/accumulators.md``."""
    report.run(
        "accumulators",
        "Accumulators: time as a ratio to torch float32",
        [
            "Linear 512x1024x1024. Quantisation or casts and dequantisation included, weights "
            "packed. int32 is the layer whose register holds every sum; int16 wraps, which the "
            "exact sums are reduced to at the end.",
            report.CLOCKS,
        ],
        lambda count, progress: measure(count, levels, rounds, progress),
        threads,
        save,
    )
