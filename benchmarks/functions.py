"""Approximated functions of a 512 x 1024 float32 tensor, against torch's own function."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from functools import partial
from typing import Any

import torch
import torch.nn.functional as F
from rich.progress import Progress
from rich.table import Table
from torch import Tensor

import dovetail as dv
from benchmarks import report
from benchmarks.timing import clock_of, ratios
from dovetail.kernels import native

ROWS, COLUMNS = 512, 1024
LIMITS = {"pwl, table, poly without a format": 3}

#: For each kind of operation, how it is approximated.
FUNCTIONS = {
    "gelu": (
        "pwl(16)",
        "pwl(64)",
        "pwl(16, spacing=curvature)",
        "table(256, int8)",
        "poly3",
        "pwl(16, fixed(16, 12))",
        "poly2(fp16)",
        "ibert",
    ),
    "silu": ("pwl(16)", "poly3"),
    "tanh": ("pwl(16)", "poly3"),
    "exp": ("poly3", "base2"),
    "rsqrt": ("newton", "poly3"),
    "sin": ("table(64)", "poly4"),
    "softmax": ("poly2", "pwl(4)", "table(32)", "base2", "poly2(fp16)", "softmax(exp=ibert)"),
    "layer_norm": ("norm()", "newton", "newton(1, fp16)", "isqrt"),
    "rms_norm": ("norm()", "newton", "pwl(8)"),
}


def exact(kind: str) -> Callable[[Tensor], Tensor]:
    """torch's own function."""
    whole: dict[str, Callable[[Tensor], Tensor]] = {
        "softmax": partial(torch.softmax, dim=-1),
        "layer_norm": lambda x: F.layer_norm(x, (COLUMNS,)),
        "rms_norm": lambda x: F.rms_norm(x, (COLUMNS,), eps=1e-5),
        "gelu": F.gelu,
        "silu": F.silu,
    }
    found: Callable[[Tensor], Tensor] = whole.get(kind) or getattr(torch, kind)
    return found


def call(kind: str, spelling: str, x: Tensor) -> Callable[[], Tensor]:
    """The approximation's computation."""
    made = dv.approximation(spelling)
    attributes: dict[str, Any] = {"dim": -1, "normalized_shape": (COLUMNS,), "eps": 1e-5}
    return lambda: made.compute(kind, {"input": x}, attributes)


def measure(threads: int, levels: Sequence[str], rounds: int, progress: Progress) -> Table:
    """One table of ratios: a row per kind and approximation, a column per level."""
    x = 2 * torch.randn(ROWS, COLUMNS, generator=torch.Generator().manual_seed(0))
    clock = clock_of(threads)
    table = Table(title=f"time / torch's own, {threads} thread{'s' if threads > 1 else ''}")
    for header in ("operation", "fn", *levels):
        table.add_column(header)
    task = progress.add_task(f"{threads} threads", total=sum(map(len, FUNCTIONS.values())))
    for kind, spellings in FUNCTIONS.items():
        given = x.abs() if kind == "rsqrt" else x
        for spelling in spellings:
            calls = dict.fromkeys(levels, call(kind, spelling, given))
            found = ratios(partial(exact(kind), given), calls, rounds, native.set_isa, clock)
            table.add_row(kind, spelling, *(f"{found[level]:.2f}" for level in levels))
            progress.advance(task)
    return table


def run(threads: Sequence[int], levels: Sequence[str], rounds: int, save: bool) -> None:
    """Measure, print, and with ``save`` write ``results/functions.md``."""
    report.run(
        "functions",
        "Approximated functions: time as a ratio to torch's own",
        [
            f"{ROWS} x {COLUMNS} float32, contiguous.",
            report.CLOCKS,
            report.limits("AVX-512", LIMITS),
        ],
        lambda count, progress: measure(count, levels, rounds, progress),
        threads,
        save,
    )
