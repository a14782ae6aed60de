"""A training step against torch float32: forward through the multiplier, backward by each gradient.

ResNet-18 on images of 32x32; a step is a forward pass, a loss and a backward pass, in float32 and
with every product in int8, in one process. Weights are random, from one seed, and change before
every step, as an optimiser would change them (untimed): they are quantised and packed anew. With
one thread the time is that of the processor.
"""

from __future__ import annotations

import time
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
GRADIENTS = ("ste", "lut1d", "lut2d", "lut2d(window=4)", "approx")
# A table without structure has sixteen terms in two dimensions.
UNSTRUCTURED = ("ste", "lut1d", "approx")
LIMITS = {"ste, rank 1 to 5": 1.4, "ste, table": 2.0, "lut2d, rank 1 to 5": 3.0}  # on AVX-512


def _step(model: nn.Module, x: torch.Tensor) -> None:
    model.zero_grad()
    model(x).square().mean().backward()


def _touch(model: nn.Module) -> None:
    """What an optimiser does to what is kept of weights."""
    with torch.no_grad():
        for parameter in model.parameters():
            parameter.mul_(1.0)


def _made(x: torch.Tensor, mul: dv.Multiplier | None = None, grad: str = "ste") -> nn.Module:
    torch.manual_seed(0)
    model: nn.Module = zoo.build("resnet18").train()
    if mul is not None:
        rule = dv.rule("*", input="int8", weight="int8", mul=mul, grad=grad)
        dv.apply_(model, dv.Recipe(rule), x[:8])
    return model


def measure(
    threads: int, levels: Sequence[str], rounds: int, batch: int, progress: Progress
) -> Table:
    """One table of ratios: a row per level and multiplier, a column per gradient."""
    kinds = {kind: mul for kind, mul in multipliers().items() if kind in KINDS}
    title = f"time / torch float32 time, {threads} thread{'s' if threads > 1 else ''}"
    table = Table(title=f"{title}, batches of {batch}")
    for header in ("level", "multiplier", *GRADIENTS):
        table.add_column(header)
    clock = time.thread_time if threads == 1 else time.perf_counter
    task = progress.add_task(f"{threads} threads", total=len(levels) * len(kinds))
    x = torch.randn(batch, 3, 32, 32)
    plain = _made(x)
    exact = partial(_step, plain, x)
    for level in levels:
        native.set_isa(level)
        for kind, mul in kinds.items():
            gradients = UNSTRUCTURED if kind == "table" else GRADIENTS
            made = {grad: _made(x, mul, grad) for grad in gradients}
            steps: dict[str, Callable[[], object]] = {
                grad: partial(_step, model, x) for grad, model in made.items()
            }

            def between(grad: str, made: dict[str, nn.Module] = made) -> None:
                _touch(plain)
                _touch(made[grad])

            found = ratios(exact, steps, rounds, between, clock=clock)
            cells = (f"{found[grad]:.2f}" if grad in found else "-" for grad in GRADIENTS)
            table.add_row(level, kind, *cells)
            progress.advance(task)
    return table


def run(
    threads: Sequence[int], levels: Sequence[str], rounds: int, save: bool, batch: int = 64
) -> None:
    """Measure, print, and with ``save`` write ``results/training.md``."""
    report.run(
        "training",
        "A training step of ResNet-18: time as a ratio to torch float32",
        ["Forward and backward, images of 32x32.", report.limits("AVX-512", LIMITS)],
        lambda count, progress: measure(count, levels, rounds, batch, progress),
        threads,
        save,
    )
