"""Operands of 12 and 16 bits, against torch float32.

Whole emulated layers, as in ``mac``: a linear layer of 512 rows by 1024 by 1024, and a 3x3
convolution.
"""

from __future__ import annotations

import copy
from collections.abc import Sequence
from functools import partial

import torch
from rich.progress import Progress
from rich.table import Table
from torch import nn

import dovetail as dv
from benchmarks import report
from benchmarks.timing import ratios
from dovetail.kernels import native

MULTIPLIERS = (
    *("exact", "drum(bits=16)", "broken_array(bits=16, drop_columns=10)"),
    *("mitchell(bits=12)", "mitchell(bits=16)", "alm(adder='loa', m=3, bits=16)"),
    *("mbm(bits=16)", "etm(bits=16)"),
)


def layers() -> dict[str, tuple[nn.Module, torch.Tensor]]:
    """What is measured, with an input each."""
    return {
        "linear 512x1024x1024": (nn.Linear(1024, 1024), torch.randn(512, 1024)),
        "conv 3x3, 128 channels @28": (
            nn.Conv2d(128, 128, 3, padding=1),
            torch.randn(4, 128, 28, 28),
        ),
    }


def measure(threads: int, levels: Sequence[str], rounds: int, progress: Progress) -> Table:
    """One table of ratios: a row per level and multiplier, a column per layer."""
    title = f"time / torch float32 time, {threads} thread{'s' if threads > 1 else ''}"
    table = Table(title=title)
    for header in ("level", "multiplier", *layers()):
        table.add_column(header)
    rows: dict[tuple[str, str], list[str]] = {(at, m): [] for at in levels for m in MULTIPLIERS}
    task = progress.add_task(f"{threads} threads", total=len(layers()) * len(rows))
    for layer, x in layers().values():
        exact = nn.Sequential(layer).eval()
        for level, mul in rows:
            native.set_isa(level)
            width = 12 if "12" in mul else 16
            rule = dv.rule("*", input=f"int{width}", weight=f"int{width}", mul=mul)
            model = copy.deepcopy(exact)
            dv.apply_(model, dv.Recipe(rule), x)
            with torch.no_grad():
                found = ratios(partial(exact, x), {"": partial(model, x)}, rounds)
            rows[level, mul].append(f"{found['']:.2f}")
            progress.advance(task)
    for name, cells in rows.items():
        table.add_row(*name, *cells)
    return table


def run(threads: Sequence[int], levels: Sequence[str], rounds: int, save: bool) -> None:
    """Measure, print, and with ``save`` write ``results/wide.md``."""
    report.run(
        "wide",
        "Operands of 12 and 16 bits: time as a ratio to torch float32",
        ["Quantisation and dequantisation included, weights packed."],
        lambda count, progress: measure(count, levels, rounds, progress),
        threads,
        save,
    )
