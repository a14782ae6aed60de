"""Products of block formats in the hardware's exact order, against torch float32.

512 rows by 1024 by 1024, one row by 4096 by 4096, and a 3x3 convolution of 64 channels at 56x56,
batch 8. Each figure is the
time of the whole op (activations rounded, weights packed beforehand) over that of torch's float32
op of the same shape, in one process.
"""

from __future__ import annotations

from collections.abc import Callable, Sequence
from functools import partial

import torch
import torch.nn.functional as F
from rich.progress import Progress
from rich.table import Table
from torch import Tensor

import dovetail as dv
from benchmarks import report
from benchmarks.timing import ratios
from dovetail.kernels import block, native
from dovetail.kernels.geometry import LINEAR, Geometry
from dovetail.kernels.realisation import using

LIMIT = 0.5  # linear, AVX-512 with VNNI, one thread
FORMATS = (
    "mxint8",
    "mxfp4",
    "mxfp6_e2m3",
    "mxfp6_e3m2",
    "bfp(m=8, block=64)",
    "bfp(m=12, block=32)",
    "nvfp4",
    "mxfp8_e4m3",
    "mxfp8_e5m2",
)


def ops() -> dict[str, tuple[Callable[[], Tensor], Tensor, Tensor, Geometry]]:
    """What is measured: the float32 op, its operands, and its geometry."""
    x, w = torch.randn(512, 1024), torch.randn(1024, 1024)
    row, square = torch.randn(1, 4096), torch.randn(4096, 4096)
    image, kernel = torch.randn(8, 64, 56, 56), torch.randn(64, 64, 3, 3)
    return {
        "linear 512x1024x1024": (partial(F.linear, x, w), x, w, LINEAR),
        "linear 1x4096x4096": (partial(F.linear, row, square), row, square, LINEAR),
        "conv 64@56": (
            partial(F.conv2d, image, kernel, padding=1),
            image,
            kernel,
            Geometry.conv(2, padding=1),
        ),
    }


def emulated(where: str, x: Tensor, w: Tensor, fmt: str, geometry: Geometry) -> Tensor:
    """The op at a native level, or in plain torch."""
    number = dv.format(fmt)
    if where == "torch":
        with using("torch-products"):
            return block.emulate(x, w, None, number, number, geometry)
    return block.emulate(x, w, None, number, number, geometry)


def measure(threads: int, levels: Sequence[str], rounds: int, progress: Progress) -> Table:
    """One table of ratios: a row per level and format, a column per op."""
    table = Table(title=f"time / torch float32 time, {threads} thread{'s' if threads > 1 else ''}")
    for header in ("level", "formats"):
        table.add_column(header)
    cases = [(level, fmt) for level in (*levels, "torch") for fmt in FORMATS]
    rows: dict[tuple[str, str], list[str]] = {case: [] for case in cases}
    task = progress.add_task(f"{threads} threads", total=len(ops()))

    def between(name: str) -> None:
        level = name.split(" ", 1)[0]
        if level != "torch":
            native.set_isa(level)

    for name, (baseline, x, w, geometry) in ops().items():
        table.add_column(name, justify="right")
        calls = {
            f"{level} {fmt}": partial(emulated, level, x, w, fmt, geometry) for level, fmt in cases
        }
        with torch.no_grad():
            found = ratios(baseline, calls, rounds, between)
        for level, fmt in cases:
            rows[level, fmt].append(f"{found[f'{level} {fmt}']:.2f}")
        progress.advance(task)
    for (level, fmt), cells in rows.items():
        table.add_row(level, fmt, *cells)
    return table


def run(threads: Sequence[int], levels: Sequence[str], rounds: int, save: bool) -> None:
    """Measure, print, and with ``save`` write ``results/block.md``."""
    report.run(
        "block",
        "Products of block formats: time as a ratio to torch float32",
        [
            "Exact order; rounding of the activations included, weights packed.",
            "mxfp8_* are multiplied in float64, of which a vector holds half as many: 2 at least.",
            report.limits(
                "integers, AVX-512 with VNNI, one thread", {"linear 512x1024x1024": LIMIT}
            ),
        ],
        lambda count, progress: measure(count, levels, rounds, progress),
        threads,
        save,
    )
