"""Where the numbers of a run go."""

from __future__ import annotations

import csv
from collections.abc import Mapping
from pathlib import Path

import pytest
import torch
from torch import nn

from dovetail.errors import DovetailError
from dovetail.training import CSVLogger, fit

X = torch.randn(8, 3, generator=torch.Generator().manual_seed(0))
BATCHES = [(X, torch.arange(8) % 2)] * 3


class Keeping:
    def __init__(self) -> None:
        self.rows: list[tuple[int, dict[str, float]]] = []

    def log(self, step: int, values: Mapping[str, float]) -> None:
        self.rows.append((step, dict(values)))


class Writer:
    """As much of TensorBoard's SummaryWriter as a run needs."""

    def __init__(self) -> None:
        self.seen: list[tuple[str, float, int]] = []

    def add_scalar(self, tag: str, scalar_value: float, global_step: int) -> None:
        self.seen.append((tag, scalar_value, global_step))


def test_every_logger_gets_every_number(tmp_path: Path) -> None:
    kept, writer, path = Keeping(), Writer(), tmp_path / "deep" / "run.csv"
    result = fit(
        nn.Linear(3, 2),
        BATCHES,
        epochs=2,
        evaluate=lambda net: 0.5,
        logger=[kept, writer, path],
        progress=False,
    )
    steps = [step for step, values in kept.rows if "loss" in values]
    assert steps == list(range(1, 7))
    epochs = [(step, v["epoch"], v["metric"]) for step, v in kept.rows if "metric" in v]
    assert epochs == [(0, 0, 0.5), (3, 1, 0.5), (6, 2, 0.5)]
    assert [v["epoch_loss"] for _, v in kept.rows if "epoch_loss" in v] == list(result.losses)
    assert {(step, name): v for step, values in kept.rows for name, v in values.items()} == {
        (step, name): value for name, value, step in writer.seen
    }
    with path.open() as file:
        table = list(csv.DictReader(file))
    assert [int(row["step"]) for row in table] == [step for step, _ in kept.rows]
    for row, (_, values) in zip(table, kept.rows, strict=True):
        written = {k: float(v) for k, v in row.items() if v and k != "step"}
        assert written == values


def test_a_new_run_replaces_the_table_and_a_resumed_one_keeps_its_head(tmp_path: Path) -> None:
    path = tmp_path / "run.csv"
    first = CSVLogger(path)
    for step in range(1, 5):
        first.log(step, {"loss": float(step)})
    again = CSVLogger(path)
    again.start(2)
    again.log(3, {"loss": 9.0})
    assert [line.split(",")[0] for line in path.read_text().splitlines()] == ["step", "1", "2", "3"]
    CSVLogger(path).log(1, {"lr": 0.5})
    assert path.read_text().splitlines()[1:] == ["1,,,0.5,,"]


def test_a_steps_loss_is_the_mean_of_its_batches() -> None:
    kept = Keeping()
    result = fit(nn.Linear(3, 2), BATCHES, accumulate=3, logger=kept, progress=False)
    assert [values["loss"] for _, values in kept.rows if "loss" in values] == list(result.losses)


def test_refusals(tmp_path: Path) -> None:
    with pytest.raises(DovetailError, match="is no logger"):
        fit(nn.Linear(3, 2), BATCHES, logger=object(), progress=False)
    with pytest.raises(DovetailError, match="did you mean 'loss'"):
        CSVLogger(tmp_path / "x.csv").log(1, {"los": 1.0})
