"""Several processes train one model: two, launched by torchrun on this machine, by gloo."""

from __future__ import annotations

import importlib.util
import os
import subprocess
import sys
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest
import torch
import torch.distributed as dist
from torch import Tensor, nn
from torch.utils.data import DistributedSampler

import dovetail as dv
from dovetail.training.snapshot import copy_of

SCRIPT = Path(__file__).with_name("together.py")
pytestmark = pytest.mark.skipif(
    not (dist.is_available() and dist.is_gloo_available()), reason="torch without gloo"
)


def launched(folder: Path, *scenarios: str) -> list[dict[str, Any]]:
    """What each of two processes found."""
    command = [sys.executable, "-m", "torch.distributed.run", "--standalone", "--nproc-per-node=2"]
    environment = os.environ | {"OMP_NUM_THREADS": "1", "PYTHONPATH": os.pathsep.join(sys.path)}
    done = subprocess.run(
        [*command, str(SCRIPT), ",".join(scenarios), str(folder)],
        env=environment,
        capture_output=True,
        text=True,
        timeout=300,
    )
    assert done.returncode == 0, done.stderr[-3000:]
    return [torch.load(folder / f"rank-{rank}.pt") for rank in range(2)]


def scenario() -> Any:
    """The script as a module: its network and data."""
    spec = importlib.util.spec_from_file_location("together", SCRIPT)
    assert spec is not None
    assert spec.loader is not None
    module = importlib.util.module_from_spec(spec)
    spec.loader.exec_module(module)
    return module


class Whole:
    """Both processes' batches as one, in the same order."""

    def __init__(self, of: Any) -> None:
        self.of, self.epoch = of, 0

    def __len__(self) -> int:
        return 4

    def set_epoch(self, epoch: int) -> None:
        self.epoch = epoch

    def __iter__(self) -> Iterator[tuple[Tensor, Tensor]]:
        rows = []
        for rank in range(2):
            sampler = DistributedSampler(self.of.DATA, num_replicas=2, rank=rank, seed=3)
            sampler.set_epoch(self.epoch)
            rows.append(torch.tensor(list(sampler)).reshape(4, 4))
        for first, second in zip(*rows, strict=True):
            both = torch.cat([first, second])
            yield self.of.X[both], self.of.Y[both]


def equal(one: dict[str, Tensor], other: dict[str, Tensor]) -> bool:
    return one.keys() == other.keys() and all(torch.equal(one[k], other[k]) for k in one)


def test_ddp(tmp_path: Path) -> None:
    """Replicas equal; loss and weights as in one process within rounding; all stop together."""
    names = ("ddp", "accumulating", "own_loop", "budget", "refused", "diverged")
    first, second = launched(tmp_path, *names)
    shared = first["accumulating"]
    assert shared == second["accumulating"]
    assert "gave 3 batches in epoch 1 and says that it has 4" in shared.pop("error")
    # Four batches: once a step, the last of which may be of fewer; where nobody knows, each time.
    assert shared == {"1": 4, "2": 2, "3": 2, "stream": 4}
    for name in ("ddp", "own_loop", "budget"):
        assert equal(first[name]["model"], second[name]["model"])

    of = scenario()
    model = of.net()
    alone = dv.fit(model, Whole(of), **of.OPTIONS)
    fit = first["ddp"]["fit"]
    assert fit == second["ddp"]["fit"]
    assert fit["losses"] == pytest.approx(alone.losses, abs=1e-5)
    assert fit["steps"] == alone.steps == 6
    assert len(fit["metrics"]) == 4
    log = (tmp_path / "log.csv").read_text().splitlines()
    assert len(log) == 1 + 1 + 3 * (2 + 1)  # header, before training, steps and epochs: once

    model = of.net()
    optimizer = torch.optim.SGD(model.parameters(), lr=0.1)
    losses, whole = [], Whole(of)
    for epoch in range(2):
        whole.set_epoch(epoch)
        for x, y in whole:
            loss = nn.functional.cross_entropy(model(x), y)
            optimizer.zero_grad()
            loss.backward()
            optimizer.step()
            losses.append(loss.item())
    pairs = zip(first["own_loop"]["losses"], second["own_loop"]["losses"], strict=True)
    assert [(a + b) / 2 for a, b in pairs] == pytest.approx(losses, abs=1e-6)
    for key, value in copy_of(model).items():
        assert torch.allclose(value, first["own_loop"]["model"][key], atol=1e-6)

    budget = first["budget"]["fit"]
    assert budget == second["budget"]["fit"]
    assert budget["stopped"]
    assert budget["metrics"] == pytest.approx([0.2, 0.7, 0.9])

    assert "Wrap it in DistributedDataParallel" in first["refused"]["error"]
    assert first["refused"] == second["refused"]
    assert "the loss is inf at epoch 1, step 1" in first["diverged"]["error"]
    assert first["diverged"] == second["diverged"]


@pytest.mark.slow
def test_ddp_goes_on_after_an_interruption(tmp_path: Path) -> None:
    for found in launched(tmp_path, "ddp_interrupted"):
        runs = found["ddp_interrupted"]
        assert runs["resumed"]["fit"] == runs["straight"]["fit"]
        assert equal(runs["resumed"]["model"], runs["straight"]["model"])
    files = sorted(path.name for path in (tmp_path / "ddp_saved").glob("*.pt"))
    assert files == ["step-6.rank-0.pt", "step-6.rank-1.pt"]
    of = scenario()
    saved = tmp_path / "ddp_saved"
    with pytest.raises(dv.DovetailError, match="run with processes 2, this one has 1"):
        dv.fit(of.net(), Whole(of), checkpoint=saved, **of.OPTIONS)


@pytest.mark.slow
def test_fsdp(tmp_path: Path) -> None:
    """Sharded weights train as whole ones, and go on after an interruption."""
    found = launched(tmp_path, "fsdp", "fsdp_interrupted")
    of = scenario()
    model = of.net()
    alone = dv.fit(model, Whole(of), **of.OPTIONS)
    weights = copy_of(model)
    for rank in range(2):
        fit = found[rank]["fsdp"]["fit"]
        assert fit["losses"] == pytest.approx(alone.losses, abs=1e-5)
        runs = found[rank]["fsdp_interrupted"]
        assert runs["resumed"]["fit"] == runs["straight"]["fit"]
        assert equal(runs["resumed"]["model"], runs["straight"]["model"])
    for key, value in weights.items():
        parts = [found[rank]["fsdp"]["model"][key] for rank in range(2)]
        whole = parts[0] if parts[0].shape == value.shape else torch.cat(parts)
        assert torch.allclose(whole, value, atol=1e-4)
