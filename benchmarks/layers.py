"""Tables of whole emulated layers, a linear one and a convolution, against torch float32.

Each figure is the time of an emulated module (quantise or cast, multiply, accumulate, dequantise,
add the bias; weights packed beforehand) over that of the same module in float32, in one process.
"""

from __future__ import annotations

import copy
from collections.abc import Mapping, Sequence
from functools import partial
from typing import Any

import torch
from rich.progress import Progress
from rich.table import Table
from torch import nn

import dovetail as dv
from benchmarks.timing import clock_of, ratios
from dovetail.kernels import native

__all__ = ["measure"]


def layers() -> dict[str, tuple[nn.Module, torch.Tensor]]:
    """What is measured, with an input each."""
    return {
        "linear 512x1024x1024": (nn.Linear(1024, 1024), torch.randn(512, 1024)),
        "conv 3x3, 128 channels @28": (
            nn.Conv2d(128, 128, 3, padding=1),
            torch.randn(4, 128, 28, 28),
        ),
    }


def measure(
    rules: Mapping[str, Mapping[str, Any]],
    threads: int,
    levels: Sequence[str],
    rounds: int,
    progress: Progress,
) -> Table:
    """One table of ratios: a row per level and rule, a column per layer."""
    title = f"time / torch float32 time, {threads} thread{'s' if threads > 1 else ''}"
    table = Table(title=title)
    for header in ("level", "multiplier", *layers()):
        table.add_column(header)
    rows: dict[tuple[str, str], list[str]] = {(at, name): [] for at in levels for name in rules}
    task = progress.add_task(f"{threads} threads", total=len(layers()) * len(rows))
    for layer, x in layers().values():
        exact = nn.Sequential(layer).eval()
        for level, name in rows:
            native.set_isa(level)
            model = copy.deepcopy(exact)
            dv.apply_(model, dv.Recipe(dv.rule("*", **rules[name])), x)
            with torch.no_grad():
                calls = {"": partial(model, x)}
                found = ratios(partial(exact, x), calls, rounds, clock=clock_of(threads))
            rows[level, name].append(f"{found['']:.2f}")
            progress.advance(task)
    for key, cells in rows.items():
        table.add_row(*key, *cells)
    return table
