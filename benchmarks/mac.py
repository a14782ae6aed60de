"""Emulated layers against torch float32: linear layers and convolutions, four kinds of multiplier.

Linear layers are rows x inputs x outputs; convolutions are channels@pixels, 3x3 with padding 1
unless they say 1x1.
Each figure is the time of a whole emulated module (quantise, multiply, dequantise, add the bias;
weights packed beforehand) over that of the same module in float32, batch 8, in one process.
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
from benchmarks.timing import ratios
from dovetail.kernels import native

# On the best AVX-512 level, one thread; depthwise layers with any multiplier.
LIMITS = {"rank 1": 0.4, "rank 5": 1.1, "16 classes": 1.0, "table": 2.0, "depthwise": 1.2}


def shapes() -> dict[str, tuple[nn.Module, torch.Tensor]]:
    """The layers measured, with an input each."""
    found: dict[str, tuple[nn.Module, torch.Tensor]] = {}
    for rows, inputs, outputs in ((512, 1024, 1024), (128, 768, 3072), (1, 4096, 4096)):
        linear = nn.Linear(inputs, outputs)
        found[f"linear {rows}x{inputs}x{outputs}"] = (linear, torch.randn(rows, inputs))
    for channels, side in ((64, 56), (128, 28), (256, 14), (512, 7)):
        layer = nn.Conv2d(channels, channels, 3, padding=1)
        found[f"conv {channels}@{side}"] = (layer, torch.randn(8, channels, side, side))
    found["conv 1x1 256@14"] = (nn.Conv2d(256, 256, 1), torch.randn(8, 256, 14, 14))
    for channels, side in ((32, 112), (96, 56), (384, 14)):
        layer = nn.Conv2d(channels, channels, 3, padding=1, groups=channels)
        found[f"depthwise {channels}@{side}"] = (layer, torch.randn(8, channels, side, side))
    return found


def multipliers() -> dict[str, dv.Multiplier]:
    """Of rank 1; the catalogue's highest rank (5); a byte off by class; without structure."""
    rng = np.random.default_rng(0)
    table = rng.integers(-16384, 16384, (256, 256))
    values = np.arange(256).astype(np.int8).astype(np.int64)
    error = rng.integers(0, 256, (16, 16))[values % 16][:, values % 16]
    return {
        "rank 1": dv.multiplier("mul8s_1L2J"),
        "rank 5": dv.multiplier("mul8s_1KVA"),
        "16 classes": dv.multiplier(np.outer(values, values) + error, signed=True),
        "table": dv.multiplier(table, signed=True),
    }


def measure(threads: int, levels: Sequence[str], rounds: int, progress: Progress) -> Table:
    """One table of ratios: a row per level and multiplier, a column per layer."""
    kinds = multipliers()
    title = f"time / torch float32 time, {threads} thread{'s' if threads > 1 else ''}"
    table = Table(title=title)
    for header in ("level", "multiplier"):
        table.add_column(header)
    for shape in shapes():
        table.add_column(shape, justify="right")
    names = [f"{level} {kind}" for level in levels for kind in kinds]
    rows: dict[str, list[str]] = {name: [] for name in names}
    task = progress.add_task(f"{threads} threads", total=len(shapes()))
    for layer, x in shapes().values():
        exact = nn.Sequential(layer).eval()
        models = {}
        for name in names:
            level, kind = name.split(" ", 1)
            native.set_isa(level)
            rule = dv.rule("*", input="int8", weight="int8", mul=kinds[kind])
            models[name] = copy.deepcopy(exact)
            dv.apply_(models[name], dv.Recipe(rule), x)
        with torch.no_grad():
            found = ratios(
                partial(exact, x),
                {name: partial(model, x) for name, model in models.items()},
                rounds,
                between=lambda name: native.set_isa(name.split(" ", 1)[0]),
            )
        for name in names:
            rows[name].append(f"{found[name]:.2f}")
        progress.advance(task)
    for name, cells in rows.items():
        table.add_row(*name.split(" ", 1), *cells)
    return table


def run(threads: Sequence[int], levels: Sequence[str], rounds: int, save: bool) -> None:
    """Measure, print, and with ``save`` write ``results/mac.md``."""
    report.run(
        "mac",
        "Emulated layers: time as a ratio to torch float32",
        [
            "Quantisation and dequantisation included; convolutions of batch 8.",
            report.limits("AVX-512, one thread", LIMITS),
        ],
        lambda count, progress: measure(count, levels, rounds, progress),
        threads,
        save,
    )
