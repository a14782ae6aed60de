"""Whole networks against torch float32: what an emulated layer gains or loses, where it belongs.

A residual network on images of 224x224 in a batch of four, and two LSTM layers over a sequence.
Every product is emulated in int8 (the LSTM's unfused, which torch's own is not); normalisation,
activations and the rest stay torch's. Weights are random, from one seed.
"""

from __future__ import annotations

import copy
from collections.abc import Callable, Sequence
from functools import partial

import torch
from rich.progress import Progress
from rich.table import Table
from torch import nn

import dovetail as dv
from benchmarks import report
from benchmarks.mac import multipliers
from benchmarks.timing import ratios
from dovetail import zoo
from dovetail.kernels import native

KINDS = ("rank 1", "rank 5", "table")
LIMITS = {"resnet50, rank 1": 0.7, "resnet50, table": 2.5}  # on AVX-512


def networks() -> dict[str, tuple[Callable[[], nn.Module], torch.Tensor]]:
    """What is measured, with an input each."""
    return {
        "resnet18": (partial(zoo.build, "resnet18"), torch.randn(4, 3, 224, 224)),
        "resnet50": (partial(zoo.build, "resnet50"), torch.randn(4, 3, 224, 224)),
        "LSTM 2x512": (partial(nn.LSTM, 512, 512, 2), torch.randn(50, 16, 512)),
    }


def measure(threads: int, levels: Sequence[str], rounds: int, progress: Progress) -> Table:
    """One table of ratios: a row per level and multiplier, a column per network."""
    kinds = {kind: mul for kind, mul in multipliers().items() if kind in KINDS}
    table = Table(title=f"time / torch float32 time, {threads} thread{'s' if threads > 1 else ''}")
    for header in ("level", "multiplier", *networks()):
        table.add_column(header)
    names = [(level, kind) for level in levels for kind in kinds]
    rows: dict[tuple[str, str], list[str]] = {name: [] for name in names}
    task = progress.add_task(f"{threads} threads", total=len(networks()) * len(names))
    for make, x in networks().values():
        torch.manual_seed(0)
        exact = make().eval()
        for level, kind in names:
            native.set_isa(level)
            model = copy.deepcopy(exact)
            rule = dv.rule("*", input="int8", weight="int8", mul=kinds[kind])
            dv.apply_(model, dv.Recipe(rule), x)
            with torch.no_grad():
                found = ratios(partial(exact, x), {"": partial(model, x)}, rounds)
            rows[level, kind].append(f"{found['']:.2f}")
            progress.advance(task)
    for (level, kind), cells in rows.items():
        table.add_row(level, kind, *cells)
    return table


def run(threads: Sequence[int], levels: Sequence[str], rounds: int, save: bool) -> None:
    """Measure, print, and with ``save`` write ``results/models.md``."""
    report.run(
        "models",
        "Networks: time as a ratio to torch float32",
        ["Quantisation and dequantisation included.", report.limits("AVX-512", LIMITS)],
        lambda count, progress: measure(count, levels, rounds, progress),
        threads,
        save,
    )
