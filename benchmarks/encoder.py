"""One encoder layer of BERT-base against torch float32: 8 sequences of 128 tokens.

768 features, 12 heads, 3072 hidden. Every linear layer and both products of the attention have the
format at both operands. In the first two formats they are computed block by block, in integers, in
the hardware's order; ``mxfp8_e4m3`` is cast and then multiplied by torch. Weights are random.
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

LIMITS = {"bfp": 1.0, "mxfp8_e4m3": 1.3}
FORMATS = ("bfp(m=8, block=64)", "bfp(m=8, block=32)", "mxfp8_e4m3")


def measure(threads: int, levels: Sequence[str], rounds: int, progress: Progress) -> Table:
    """One table of ratios: a row per level, a column per format."""
    table = Table(title=f"time / torch float32 time, {threads} thread{'s' if threads > 1 else ''}")
    for header in ("level", *FORMATS):
        table.add_column(header)
    task = progress.add_task(f"{threads} threads", total=len(levels))
    torch.manual_seed(0)
    exact = nn.TransformerEncoderLayer(768, 12, 3072, activation="gelu", batch_first=True).eval()
    x = torch.randn(8, 128, 768)
    models = {}
    for name in FORMATS:
        models[name] = copy.deepcopy(exact)
        rule = dv.rule(op="linear matmul", input=name, weight=name)
        dv.apply_(models[name], dv.Recipe(rule), x)
    for level in levels:
        native.set_isa(level)
        calls = {name: partial(model, x) for name, model in models.items()}
        with torch.no_grad():
            found = ratios(partial(exact, x), calls, rounds)
        table.add_row(level, *(f"{found[name]:.2f}" for name in FORMATS))
        progress.advance(task)
    return table


def run(threads: Sequence[int], levels: Sequence[str], rounds: int, save: bool) -> None:
    """Measure, print, and with ``save`` write ``results/encoder.md``."""
    report.run(
        "encoder",
        "An encoder layer of BERT-base: time as a ratio to torch float32",
        [
            "Batch 8, 128 tokens; rounding of the activations included, weights packed.",
            report.limits("AVX-512 with VNNI, one thread", LIMITS),
        ],
        lambda count, progress: measure(count, levels, rounds, progress),
        threads,
        save,
    )
