"""Compiled models against torch eager: forward, and forward with backward.

Beside ``dv.compile``, with and without constant parameters, stand torch's own compiler (inductor)
and, forward only, onnxruntime. Emulated models are compared with themselves, uncompiled. Weights
are random, from one seed; every compiled model was checked against eager before it is timed,
emulated ones to a tenth of the largest element: one last place of a float before a cast moves a
whole code, in many layers one after the other. With one thread the time is the processor's.

``DOVETAIL_BENCH_MODELS`` takes some, such as ``LeNet,ResNet-18``. With ``--save`` every row is kept
in ``results/compiler.json`` as soon as it is measured, and the page is made of all that are there:
a run may be cut short, or measure some models anew.
"""

from __future__ import annotations

import copy
import io
import json
import math
import os
from collections.abc import Callable, Iterator, Sequence
from functools import partial
from typing import Any

import torch
from rich.progress import Progress
from rich.table import Table
from torch import Tensor, nn

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


class MBConv(nn.Module):
    """A block of EfficientNet-B0: expansion, depthwise convolution, squeeze and excitation."""

    def __init__(self, channels: int = 40, wide: int = 240, squeezed: int = 10) -> None:
        super().__init__()
        self.expand = nn.Sequential(
            nn.Conv2d(channels, wide, 1, bias=False), nn.BatchNorm2d(wide), nn.SiLU()
        )
        self.depthwise = nn.Sequential(
            nn.Conv2d(wide, wide, 5, padding=2, groups=wide, bias=False),
            *(nn.BatchNorm2d(wide), nn.SiLU()),
        )
        self.excite = nn.Sequential(
            *(nn.AdaptiveAvgPool2d(1), nn.Conv2d(wide, squeezed, 1), nn.SiLU()),
            *(nn.Conv2d(squeezed, wide, 1), nn.Sigmoid()),
        )
        self.project = nn.Sequential(
            nn.Conv2d(wide, channels, 1, bias=False), nn.BatchNorm2d(channels)
        )

    def forward(self, x: Tensor) -> Tensor:
        y: Tensor = self.depthwise(self.expand(x))
        result: Tensor = x + self.project(y * self.excite(y))
        return result


def models() -> dict[str, tuple[Callable[[], nn.Module], Tensor]]:
    """What is measured, with an input each."""
    return {
        "LeNet": (_lenet, torch.randn(16, 1, 28, 28)),
        "ResNet blocks": (_blocks, torch.randn(4, 32, 28, 28)),
        "encoder layer": (_encoder, torch.randn(2, 128, 256)),
        "MBConv block": (MBConv, torch.randn(4, 40, 28, 28)),
        "ResNet-18": (partial(zoo.build, "resnet18"), torch.randn(1, 3, 224, 224)),
        "ResNet-50": (partial(zoo.build, "resnet50"), torch.randn(1, 3, 224, 224)),
        "MobileNetV2": (partial(zoo.build, "mobilenet-v2"), torch.randn(1, 3, 224, 224)),
    }


def _forward(model: Callable[..., Any], x: Tensor) -> None:
    with torch.no_grad():
        model(x)


def _step(model: Callable[..., Any], x: Tensor) -> None:
    model(x).square().mean().backward()


def _onnxruntime(model: nn.Module, x: Tensor, threads: int) -> Callable[[], object] | None:
    """The model in onnxruntime; ``None`` where torch's older exporter cannot write it."""
    import onnxruntime

    file = io.BytesIO()
    try:
        torch.onnx.export(model, (x,), file, dynamo=False, input_names=["x"])
    except TypeError:
        return None
    options = onnxruntime.SessionOptions()
    options.intra_op_num_threads = threads
    # Threads that wait for more work in a loop would slow down whatever is measured next.
    options.add_session_config_entry("session.intra_op.allow_spinning", "0")
    session = onnxruntime.InferenceSession(file.getvalue(), options)
    given = {"x": x.numpy()}
    return lambda: session.run(None, given)


#: What is measured forward only.
LARGE = ("ResNet-50", "MobileNetV2")
COLUMNS = ("dovetail", "frozen", "inductor", "onnxruntime")
Row = dict[str, float]


class Rows:
    """What is measured: by number of threads, model and what of it."""

    def __init__(self, keep: bool) -> None:
        self.path = report.RESULTS / "compiler.json"
        self.keep = keep
        there = keep and self.path.exists()
        self.rows: dict[str, Row] = json.loads(self.path.read_text("utf-8")) if there else {}

    def add(self, key: tuple[object, ...], row: Row) -> None:
        """One more, on disk at once."""
        rounded = {name: round(value, 3) for name, value in row.items()}
        self.rows["/".join(map(str, key))] = rounded
        if self.keep:
            self.path.parent.mkdir(exist_ok=True)
            self.path.write_text(json.dumps(self.rows, indent=1) + "\n", "utf-8")

    def of(self, *key: object) -> Row | None:
        """The row of that key, if it was measured."""
        return self.rows.get("/".join(map(str, key)))


def _ratios(
    baseline: Callable[[], object],
    candidates: dict[str, Callable[[], object]],
    rounds: int,
    threads: int,
) -> Row:
    """Of samples that are long beside what a thread that wakes up late costs."""
    for candidate in candidates.values():
        candidate()
    return ratios(baseline, candidates, rounds, clock=clock_of(threads), at_least=0.02)


def _plain(
    name: str, model: nn.Module, x: Tensor, threads: int, rounds: int
) -> Iterator[tuple[str, Row]]:
    """A row forward and a row of training: ours, inductor, onnxruntime."""
    for what, run in (("forward", _forward), ("forward and backward", _step)):
        backward = run is _step
        if backward and name in LARGE:
            return
        exact = copy.deepcopy(model).train(backward)
        ours = partial(dv.compile, example=x, backward=backward)
        candidates: dict[str, Callable[[], object]] = {
            "dovetail": partial(run, ours(copy.deepcopy(exact)), x),
            "inductor": partial(run, torch.compile(copy.deepcopy(exact)), x),
        }
        if not backward:
            candidates["frozen"] = partial(run, ours(copy.deepcopy(exact), freeze=True), x)
            if (session := _onnxruntime(exact, x, threads)) is not None:
                candidates["onnxruntime"] = session
        yield what, _ratios(partial(run, exact, x), candidates, rounds, threads)


def _emulated(model: nn.Module, x: Tensor, threads: int, rounds: int) -> Iterator[tuple[str, Row]]:
    """A row of each recipe: compiled against uncompiled emulation."""
    for label, fields in RECIPES.items():
        emulated = copy.deepcopy(model).eval()
        dv.apply_(emulated, dv.Recipe(dv.rule(op="conv linear", **fields)), x)
        ours = partial(dv.compile, example=x, backward=False, tolerance=0.1)
        candidates = {
            "dovetail": partial(_forward, ours(copy.deepcopy(emulated)), x),
            "frozen": partial(_forward, ours(copy.deepcopy(emulated), freeze=True), x),
        }
        plain = partial(_forward, emulated, x)
        yield label, _ratios(plain, candidates, rounds, threads)


def measure(threads: int, rounds: int, rows: Rows, progress: Progress) -> Table:
    """One table of ratios: two rows per model, and one per emulated model; then their means."""
    chosen = os.environ.get("DOVETAIL_BENCH_MODELS", ",".join(models())).split(",")
    task = progress.add_task(f"{threads} threads", total=len(chosen))
    for name, (make, x) in models().items():
        if name in chosen:
            torch.manual_seed(0)
            model = make()
            for what, row in _plain(name, model, x, threads, rounds):
                rows.add((threads, name, what), row)
            for what, row in _emulated(model, x, threads, rounds):
                rows.add((threads, name, what), row)
            progress.advance(task)
    return _table(threads, rows)


def _table(threads: int, rows: Rows) -> Table:
    table = Table(title=f"time / torch eager time, {threads} thread{'s' if threads > 1 else ''}")
    for header in ("model", "what", *COLUMNS):
        table.add_column(header)
    kinds = ("forward", "forward and backward", *RECIPES)
    measured = [(n, w, row) for n in models() for w in kinds if (row := rows.of(threads, n, w))]
    for name, what, row in measured:
        table.add_row(name, what, *(f"{row[c]:.2f}" if c in row else "" for c in COLUMNS))
    for kind in kinds:
        same = [row for _, what, row in measured if what == kind]
        means = (_mean([row[c] for row in same if c in row]) for c in COLUMNS)
        table.add_row("geometric mean", kind, *means)
    return table


def _mean(values: Sequence[float]) -> str:
    return f"{math.exp(sum(map(math.log, values)) / len(values)):.2f}" if values else ""


def run(threads: Sequence[int], levels: Sequence[str], rounds: int, save: bool) -> None:
    """Measure, print, and with ``save`` write ``results/compiler.md``."""
    del levels  # generated code is of the machine's own level
    rows = Rows(save)
    report.run(
        "compiler",
        "Compiled models: time as a ratio to torch eager",
        [
            report.limits("two threads", LIMITS),
            "Geometric means: forward 0.85, forward and backward 1.",
            "frozen: dv.compile(..., freeze=True), parameters are constants.",
            report.CLOCKS,
        ],
        lambda count, progress: measure(count, rounds, rows, progress),
        threads,
        save,
    )
