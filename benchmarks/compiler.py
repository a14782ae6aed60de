"""Compiled models against torch eager: forward, and forward with backward.

Beside ``dv.compile`` stand torch's own compiler (inductor) and, forward only, onnxruntime. Emulated
models are compared with themselves, uncompiled. Weights are random, from one seed; every compiled
model was checked against eager before it is timed, emulated ones to a tenth of the largest element:
one last place of a float before a cast moves a whole code, in many layers one after the other.
With one thread the time is the processor's. ``DOVETAIL_BENCH_MODELS`` takes some, such as
``LeNet,ResNet-18``.
"""

from __future__ import annotations

import copy
import io
import os
from collections.abc import Callable, Sequence
from functools import partial
from typing import Any

import torch
from rich.progress import Progress
from rich.table import Table
from torch import nn

import dovetail as dv
from benchmarks import report
from benchmarks.timing import clock_of, ratios
from dovetail import zoo

LIMITS = {"forward": 1.1, "forward and backward": 1.2, "emulated": 0.8}
RECIPES = {
    "int8, factored multiplier": {"input": "int8", "weight": "int8", "mul": "mul8s_1L2H@v1.1"},
    "mxfp8": {"input": "mxfp8_e4m3", "weight": "mxfp8_e4m3"},
}


def _lenet() -> nn.Module:
    return nn.Sequential(
        nn.Conv2d(1, 6, 5, padding=2),
        nn.ReLU(),
        nn.MaxPool2d(2),
        nn.Conv2d(6, 16, 5),
        nn.ReLU(),
        nn.MaxPool2d(2),
        nn.Flatten(),
        nn.Linear(400, 120),
        nn.ReLU(),
        nn.Linear(120, 84),
        nn.ReLU(),
        nn.Linear(84, 10),
    )


def _blocks() -> nn.Module:
    return nn.Sequential(zoo.resnet.BasicBlock(32, 32), zoo.resnet.BasicBlock(32, 32))


def _encoder() -> nn.Module:
    return nn.TransformerEncoderLayer(
        256, 4, 1024, dropout=0.0, activation="gelu", batch_first=True
    )


def models() -> dict[str, tuple[Callable[[], nn.Module], torch.Tensor]]:
    """What is measured, with an input each."""
    return {
        "LeNet": (_lenet, torch.randn(16, 1, 28, 28)),
        "ResNet blocks": (_blocks, torch.randn(4, 32, 28, 28)),
        "encoder layer": (_encoder, torch.randn(2, 128, 256)),
        "ResNet-18": (partial(zoo.build, "resnet18"), torch.randn(1, 3, 224, 224)),
        "ResNet-50": (partial(zoo.build, "resnet50"), torch.randn(1, 3, 224, 224)),
        "MobileNetV2": (partial(zoo.build, "mobilenet-v2"), torch.randn(1, 3, 224, 224)),
    }


def _forward(model: Callable[..., Any], x: torch.Tensor) -> None:
    with torch.no_grad():
        model(x)


def _step(model: Callable[..., Any], x: torch.Tensor) -> None:
    model(x).square().mean().backward()


def _onnxruntime(model: nn.Module, x: torch.Tensor, threads: int) -> Callable[[], object] | None:
    """The model in onnxruntime; ``None`` where torch's older exporter cannot write it."""
    import onnxruntime

    file = io.BytesIO()
    try:
        torch.onnx.export(model, (x,), file, dynamo=False, input_names=["x"])
    except TypeError:
        return None
    options = onnxruntime.SessionOptions()
    options.intra_op_num_threads = threads
    session = onnxruntime.InferenceSession(file.getvalue(), options)
    given = {"x": x.numpy()}
    return lambda: session.run(None, given)


def _rows(model: nn.Module, x: torch.Tensor, threads: int, rounds: int) -> list[tuple[str, ...]]:
    """A row forward and a row of training: ours, inductor, onnxruntime."""
    found = []
    evaluated, trained = copy.deepcopy(model).eval(), copy.deepcopy(model).train()
    for name, exact, run in (
        ("forward", evaluated, _forward),
        ("forward and backward", trained, _step),
    ):
        backward = run is _step
        candidates: dict[str, Callable[[], object]] = {
            "dovetail": partial(run, dv.compile(copy.deepcopy(exact), x, backward=backward), x),
            "inductor": partial(run, torch.compile(copy.deepcopy(exact)), x),
        }
        if not backward and (session := _onnxruntime(exact, x, threads)) is not None:
            candidates["onnxruntime"] = session
        for candidate in candidates.values():
            candidate()
        made = ratios(partial(run, exact, x), candidates, rounds, clock=clock_of(threads))
        cells = (f"{made[c]:.2f}" if c in made else "" for c in COLUMNS)
        found.append((name, *cells))
    return found


COLUMNS = ("dovetail", "inductor", "onnxruntime")


def measure(threads: int, rounds: int, progress: Progress) -> Table:
    """One table of ratios: two rows per model, and one per emulated model."""
    table = Table(title=f"time / torch eager time, {threads} thread{'s' if threads > 1 else ''}")
    for header in ("model", "what", *COLUMNS):
        table.add_column(header)
    chosen = os.environ.get("DOVETAIL_BENCH_MODELS", ",".join(models())).split(",")
    task = progress.add_task(f"{threads} threads", total=len(chosen) * (1 + len(RECIPES)))
    for name, (make, x) in models().items():
        if name not in chosen:
            continue
        torch.manual_seed(0)
        model = make()
        for row in _rows(model, x, threads, rounds):
            table.add_row(name, *row)
        progress.advance(task)
        for label, fields in RECIPES.items():
            emulated = copy.deepcopy(model).eval()
            dv.apply_(emulated, dv.Recipe(dv.rule(op="conv linear", **fields)), x)
            compiled = dv.compile(copy.deepcopy(emulated), x, backward=False, tolerance=0.1)
            candidates = {"dovetail": partial(_forward, compiled, x)}
            made = ratios(
                partial(_forward, emulated, x), candidates, rounds, clock=clock_of(threads)
            )
            table.add_row(name, label, f"{made['dovetail']:.2f}", "", "")
            progress.advance(task)
    return table


def run(threads: Sequence[int], levels: Sequence[str], rounds: int, save: bool) -> None:
    """Measure, print, and with ``save`` write ``results/compiler.md``."""
    del levels  # generated code is of the machine's own level
    report.run(
        "compiler",
        "Compiled models: time as a ratio to torch eager",
        [report.limits("two threads", LIMITS), report.CLOCKS],
        lambda count, progress: measure(count, rounds, progress),
        threads,
        save,
    )
