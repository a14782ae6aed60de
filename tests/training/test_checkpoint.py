"""An interrupted training goes on to the same bits; what is no whole checkpoint is refused."""

from __future__ import annotations

import json
import random
import shutil
from collections.abc import Mapping
from pathlib import Path

import numpy as np
import pytest
import torch
from torch import Tensor, nn
from torch.utils.data import DataLoader, TensorDataset

import dovetail as dv
from dovetail.errors import DovetailError
from dovetail.training import FitResult, fit
from dovetail.training.snapshot import tensors
from helpers import randn

X = randn(40, 16)
Y = (X[:, 0] > X[:, 1]).long()


class InterruptedRunError(Exception):
    """What stands for a power cut."""


class Until:
    """A logger that lets a run take so many steps."""

    def __init__(self, step: int) -> None:
        self.step = step

    def log(self, step: int, values: Mapping[str, float]) -> None:
        if step == self.step and "loss" in values:
            raise InterruptedRunError


class Noisy(TensorDataset):
    """Augments by every generator that users draw from."""

    def __getitem__(self, index: int) -> tuple[Tensor, ...]:
        x, y = super().__getitem__(index)
        return x + 0.01 * (torch.rand(()) + random.random() + np.random.random()), y


def emulated() -> nn.Module:
    """Stochastic rounding, dropout, batch norm, and a mask that training prunes and moves."""
    torch.manual_seed(0)
    model = nn.Sequential(
        nn.Linear(16, 12), nn.BatchNorm1d(12), nn.Dropout(0.2), nn.ReLU(), nn.Linear(12, 2)
    )
    rules = [
        dv.rule("*", input="int8", weight="int8", mul="mul8s_1KV9"),
        dv.rule("4", input="mxint8(rounding=Stochastic(16))", weight="mxint8", mul="exact"),
        dv.rule("0", sparsity="2:8(score=learned, backward=joint)"),
    ]
    dv.apply_(model, dv.Recipe(*rules), X)
    return model


def train(
    model: nn.Module, folder: Path | None = None, stop: int = 0, loader: str = "own", **more: object
) -> FitResult:
    random.seed(0)
    np.random.seed(0)
    torch.manual_seed(0)
    generator = torch.Generator().manual_seed(5) if loader == "own" else None
    workers = 2 if loader == "workers" else 0
    batches = DataLoader(
        Noisy(X, Y), batch_size=8, shuffle=True, generator=generator, num_workers=workers
    )
    options: dict[str, object] = {
        "epochs": 3,
        "lr": 0.05,
        "seed": 3,
        "checkpoint": folder,
        "checkpoint_every": 2 if folder else None,
        "logger": Until(stop) if stop else None,
    }
    return fit(model, batches, progress=False, **(options | more))  # type: ignore[arg-type]


def same(a: nn.Module, b: nn.Module) -> bool:
    one, other = tensors(a), tensors(b)
    return one.keys() == other.keys() and all(torch.equal(one[k], other[k]) for k in one)


def resumed(folder: Path, stops: list[int], **more: object) -> tuple[nn.Module, FitResult]:
    for stop in stops:
        with pytest.raises(InterruptedRunError):
            train(emulated(), folder, stop, **more)
    model = emulated()
    return model, train(model, folder, **more)


@pytest.fixture(scope="module")
def uninterrupted() -> tuple[nn.Module, FitResult]:
    model = emulated()
    return model, train(model)


@pytest.mark.parametrize("stop", [1, 2, 3, 5, 6, 14])
def test_goes_on_to_the_same_bits(
    tmp_path: Path, stop: int, uninterrupted: tuple[nn.Module, FitResult]
) -> None:
    straight, expected = uninterrupted
    model, result = resumed(tmp_path / "c", [stop])
    assert result == expected
    assert same(model, straight)


@pytest.mark.parametrize(
    "more",
    [
        {"loader": "global"},
        {"accumulate": 2},
        {"prune": "linear(end=0.9)"},
        {"optimizer": torch.optim.AdamW, "scheduler": lambda o: _one_cycle(o)},
        {"precision": "fp16", "clip_norm": 0.5},
        {"evaluate": lambda m: -float(m[0].weight.square().mean()), "seed": None},
        {"distill": "exact(temperature=3)", "checkpoint_every": None},
    ],
    ids=["global", "accumulate", "prune", "scheduler", "fp16", "evaluate", "distill"],
)
def test_goes_on_whatever_the_options(tmp_path: Path, more: dict[str, object]) -> None:
    straight = emulated()
    expected = train(straight, **({**more, "checkpoint_every": None}))  # type: ignore[arg-type]
    steps = expected.steps
    model, result = resumed(tmp_path / "c", [steps // 2, steps - 1], **more)
    assert result == expected
    assert same(model, straight)


def _one_cycle(optimizer: torch.optim.Optimizer) -> torch.optim.lr_scheduler.LRScheduler:
    return torch.optim.lr_scheduler.OneCycleLR(optimizer, max_lr=0.1, total_steps=16)


@pytest.mark.slow  # starts processes
def test_goes_on_with_loading_processes(tmp_path: Path) -> None:
    straight = emulated()
    expected = train(straight, loader="workers")
    model, result = resumed(tmp_path / "c", [7], loader="workers")
    assert result == expected
    assert same(model, straight)


def test_a_finished_run_is_not_trained_again(tmp_path: Path) -> None:
    model = emulated()
    first = train(model, tmp_path, evaluate=lambda m: float(m[0].weight.sum()))
    again = emulated()
    second = train(again, tmp_path, stop=1, evaluate=lambda m: float(m[0].weight.sum()))
    assert second == first
    assert same(again, model)


def test_logs_go_on_too(tmp_path: Path) -> None:
    train(emulated(), logger=tmp_path / "straight.csv")
    table = tmp_path / "resumed.csv"
    with pytest.raises(InterruptedRunError):
        train(emulated(), tmp_path / "c", logger=[table, Until(8)])
    train(emulated(), tmp_path / "c", logger=table)
    assert table.read_text() == (tmp_path / "straight.csv").read_text()


def test_old_files_go(tmp_path: Path) -> None:
    train(emulated(), tmp_path, evaluate=lambda m: 1.0)
    (tmp_path / ".step-99.rank-0.pt.part").write_bytes(b"cut off")
    names = {path.name for path in tmp_path.iterdir()}
    assert names >= {"manifest.json", "step-15.rank-0.pt", "best-0.rank-0.pt"}
    assert len(names) == 4
    with pytest.raises(InterruptedRunError):
        train(emulated(), tmp_path / "d", stop=9)
    assert {path.name for path in (tmp_path / "d").iterdir()} == {
        "manifest.json",
        "step-8.rank-0.pt",
    }


def cut(path: Path) -> None:
    path.write_bytes(path.read_bytes()[:-10])


DAMAGES = {
    "half of a file": (lambda f: cut(f / "step-4.rank-0.pt"), "half-written or changed"),
    "half of the manifest": (lambda f: cut(f / "manifest.json"), "no manifest"),
    "a file is missing": (lambda f: (f / "step-4.rank-0.pt").unlink(), "needs this file"),
    "the manifest is missing": (lambda f: (f / "manifest.json").unlink(), None),
    "another manifest": (lambda f: (f / "manifest.json").write_text("{}"), "no manifest"),
    "another version": (lambda f: change(f, version=9), "version 9; this dovetail reads 1"),
}


def change(folder: Path, **values: object) -> None:
    path = folder / "manifest.json"
    path.write_text(json.dumps(json.loads(path.read_text()) | values))


@pytest.fixture(scope="module")
def interrupted(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """What a run leaves that takes five steps."""
    folder: Path = tmp_path_factory.mktemp("interrupted") / "c"
    with pytest.raises(InterruptedRunError):
        train(emulated(), folder, stop=5)
    return folder


@pytest.mark.parametrize("damage", list(DAMAGES))
def test_damage_is_refused(tmp_path: Path, damage: str, interrupted: Path) -> None:
    shutil.copytree(interrupted, tmp_path, dirs_exist_ok=True)
    do, message = DAMAGES[damage]
    do(tmp_path)
    model = emulated()
    before = {name: value.clone() for name, value in tensors(model).items()}
    if message is None:  # nothing counts without its manifest: the run begins again
        train(model, tmp_path)
        return
    with pytest.raises(DovetailError, match=message):
        train(model, tmp_path)
    assert all(torch.equal(value, tensors(model)[name]) for name, value in before.items())


@pytest.mark.parametrize(
    ("more", "message"),
    [
        ({"lr": 0.01}, r"run with lr \[0.05\], this one has \[0.01\]"),
        ({"epochs": 5}, "run with epochs 3, this one has 5"),
        ({"seed": 4}, "run with seed 3, this one has 4"),
        ({"schedule": "linear"}, "run with schedule cosine, this one has linear"),
        ({"distill": "exact"}, "run with distill None"),
    ],
)
def test_a_checkpoint_of_another_run_is_refused(
    interrupted: Path, more: dict[str, object], message: str
) -> None:
    with pytest.raises(DovetailError, match=message):
        train(emulated(), interrupted, **more)  # type: ignore[arg-type]


def test_a_checkpoint_of_another_model_is_refused(tmp_path: Path) -> None:
    def plain(width: int, norm: bool = False) -> nn.Sequential:
        layers: list[nn.Module] = [nn.Linear(16, width), nn.Linear(width, 2)]
        return nn.Sequential(*layers, *([nn.BatchNorm1d(2)] if norm else []))

    with pytest.raises(InterruptedRunError):
        train(plain(4), tmp_path, stop=3)
    with pytest.raises(DovetailError, match=r"'0.weight' is torch.float32 of shape \(4, 16\)"):
        train(plain(5), tmp_path)
    with pytest.raises(DovetailError, match=r"only this one has '2\."):
        train(plain(4, norm=True), tmp_path)
    other = plain(4)
    dv.apply_(other, dv.Recipe(dv.rule("*", weight="int4")))
    with pytest.raises(DovetailError, match="run with arithmetic"):
        train(other, tmp_path)


def test_a_folder_of_something_else_is_refused(tmp_path: Path) -> None:
    (tmp_path / "thesis.tex").write_text("years of work")
    with pytest.raises(DovetailError, match=r"holds 'thesis.tex' and no checkpoint"):
        train(emulated(), tmp_path)
    assert (tmp_path / "thesis.tex").exists()


def test_options_without_a_folder_are_refused() -> None:
    with pytest.raises(DovetailError, match="checkpoint_every=5 of what"):
        train(emulated(), checkpoint_every=5)
    with pytest.raises(DovetailError, match="counts steps from 1"):
        train(emulated(), Path("unused"), checkpoint_every=0)
