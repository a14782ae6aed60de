"""What the planner predicts costs with, measured: the entries of `native_mac.COSTS`.

Each figure is a difference of two times of a large layer over that layer's in torch float32, the
mean of a linear layer and a convolution: of two numbers of int8 products, of two numbers of
lookups by class, of a table and what every multiplier costs besides.
"""

from __future__ import annotations

from collections.abc import Sequence
from functools import partial

import numpy as np
import torch
from rich.progress import Progress
from rich.table import Table
from torch import nn

from benchmarks import mac, report
from benchmarks.timing import ratios
from dovetail.kernels import native
from dovetail.kernels.geometry import LINEAR, Geometry
from dovetail.kernels.native_mac import BESIDES, COSTS
from dovetail.kernels.native_products import NativeMac
from dovetail.multipliers.classes import Lookups

LAYERS = {"linear 512x1024x1024": LINEAR, "conv 128@28": Geometry.conv(2, padding=1)}


def forms() -> dict[str, NativeMac]:
    """One and three products, one of them with one and two lookups, and a table."""
    rng = np.random.default_rng(0)
    first, second = rng.integers(-128, 128, (2, 3, 256))

    def lookups(count: int) -> tuple[Lookups, Lookups]:
        entry = rng.integers(0, 256, (count, 256, 16))
        classes, one = rng.integers(0, 16, (count, 256)), np.ones(count, dtype=np.int64)
        found = Lookups(entry, classes, one, np.zeros(256, dtype=np.int64))
        return found, found

    return {
        "1": NativeMac.factored(first[:1], second[:1], True),
        "3": NativeMac.factored(first, second, True),
        "1+1": NativeMac.factored(first[:1], second[:1], True, None, lookups(1)),
        "1+2": NativeMac.factored(first[:1], second[:1], True, None, lookups(2)),
        "table": NativeMac.table(rng.integers(-16384, 16384, (256, 256)), True),
    }


def times(layer: nn.Module, x: torch.Tensor, geometry: Geometry, rounds: int) -> dict[str, float]:
    """The time of each form over that of the layer in float32."""
    weight = layer.weight
    assert isinstance(weight, torch.Tensor)
    codes = torch.randint(-127, 128, weight.shape, dtype=torch.int8)
    scale, step = torch.ones(len(codes)), float(x.abs().max()) / 127
    calls = {}
    for name, form in forms().items():
        calls[name] = partial(
            form.quantized,
            x,
            form.pack(codes, geometry),
            scale=step,
            zero_point=0,
            qmin=-127,
            qmax=127,
            out_scale=scale,
        )
    with torch.no_grad():
        return ratios(partial(layer, x), calls, rounds)


def measure(threads: int, levels: Sequence[str], rounds: int, progress: Progress) -> Table:
    """One table of costs: a row per level, measured (predicted)."""
    table = Table(title=f"costs, {threads} thread{'s' if threads > 1 else ''}")
    for header in ("level", "besides", "rank", "lookup", "table"):
        table.add_column(header)
    task = progress.add_task(f"{threads} threads", total=len(levels))
    for level in levels:
        native.set_isa(level)
        shapes = mac.shapes()
        every = [times(*shapes[name], geometry, rounds) for name, geometry in LAYERS.items()]
        mean = {name: sum(t[name] for t in every) / len(every) for name in every[0]}
        rank, known = (mean["3"] - mean["1"]) / 2, COSTS[level]
        besides = mean["1"] - rank
        cells = (
            (besides, BESIDES),
            (rank, known.rank),
            (mean["1+2"] - mean["1+1"], known.lookup),
            (mean["table"] - besides, known.table),
        )
        table.add_row(level, *(f"{got:.2f} ({said})" for got, said in cells))
        progress.advance(task)
    return table


def run(threads: Sequence[int], levels: Sequence[str], rounds: int, save: bool) -> None:
    """Measure, print, and with ``save`` write ``results/costs.md``."""
    report.run(
        "costs",
        "Costs of the planner: time as a ratio to torch float32",
        ["Measured, and in parentheses what the planner predicts with (`native_mac.COSTS`)."],
        lambda count, progress: measure(count, levels, rounds, progress),
        threads,
        save,
    )
