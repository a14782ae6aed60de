"""The Python blocks of the documentation run as they are written, on models as they speak of."""

from __future__ import annotations

import doctest
import re
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import pytest
import torch
import torch.distributed as dist
from torch import nn
from torch.utils.data import DataLoader, DistributedSampler, TensorDataset

import dovetail as dv
from helpers import randn

ROOT = Path(__file__).parents[1]
PAGES = {
    "README.md": 1,
    "docs/analysis.md": 4,
    "docs/compiler.md": 5,
    "docs/cost.md": 3,
    "docs/export.md": 4,
    "docs/multipliers.md": 3,
    "docs/formats.md": 4,
    "docs/gradients.md": 2,
    "docs/recovery.md": 3,
    "docs/search.md": 2,
    "docs/training.md": 5,
}


class Net(nn.Module):
    """What the pages speak of: a convolution ``conv1`` and the layers ``fc1`` and ``fc``."""

    def __init__(self) -> None:
        super().__init__()
        self.conv1 = nn.Conv2d(1, 4, 3, padding=1)
        self.fc1 = nn.Linear(4 * 6 * 6, 32)
        self.fc = nn.Linear(32, 2)

    def forward(self, x: torch.Tensor) -> torch.Tensor:
        x = torch.relu(self.conv1(x)).flatten(1)
        return self.fc(torch.relu(self.fc1(x)))


def world() -> dict[str, Any]:
    """What readers of the pages have."""
    torch.manual_seed(0)
    x = randn(16, 1, 6, 6)
    loader = DataLoader(TensorDataset(x, (x.mean((1, 2, 3)) > 0).long()), batch_size=8)
    recipe = dv.Recipe(dv.rule("*", input="int8", weight="int8"))
    rough = dv.Recipe(dv.rule("*", input="int8", weight="int8", mul="drum(k=4)"))
    return {
        "dv": dv,
        "torch": torch,
        "model": Net(),
        "loader": loader,
        "held_out": loader,
        "example": x,
        "batch": x,
        "batches": [x],
        "x": randn(4, 64),
        "recipe": recipe,
        "mild": recipe,
        "rough": rough,
        "data": loader.dataset,
        "module": nn.Linear(2, 2),
        "DataLoader": DataLoader,
        "DistributedSampler": DistributedSampler,
        "DistributedDataParallel": nn.parallel.DistributedDataParallel,
    }


def blocks(page: str) -> list[str]:
    text = (ROOT / page).read_text(encoding="utf-8")
    return re.findall(r"```python\n(.*?)```", text, re.DOTALL)


def emulate(names: dict[str, Any]) -> None:
    """The pages speak of a model that a recipe was applied to."""
    names["model"] = Net()
    dv.apply_(names["model"], names["recipe"], names["example"])


def begin_anew(names: dict[str, Any]) -> None:
    names["model"] = Net()


#: What the text between the blocks says that a reader did.
BEFORE: dict[tuple[str, int], Callable[[dict[str, Any]], None]] = {
    ("docs/formats.md", 1): emulate,
    ("docs/formats.md", 3): begin_anew,
    ("docs/recovery.md", 1): begin_anew,
    ("docs/search.md", 1): begin_anew,
    ("docs/training.md", 3): emulate,
    ("docs/training.md", 4): begin_anew,
}


def run(block: str, names: dict[str, Any], where: str) -> None:
    if ">>>" not in block:
        exec(compile(block, where, "exec"), names)
        return
    parsed = doctest.DocTestParser().get_doctest(block, names, where, None, 0)
    report: list[str] = []
    found = doctest.DocTestRunner(verbose=False).run(parsed, out=report.append)
    assert found.failed == 0, "".join(report)


@pytest.fixture(autouse=True)
def surroundings(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Iterator[None]:
    """A folder for what is written, and a group of one process for what several do."""
    monkeypatch.chdir(tmp_path)
    store = dist.FileStore(str(tmp_path / ".store"), 1)
    dist.init_process_group("gloo", store=store, rank=0, world_size=1)
    yield
    dist.destroy_process_group()


@pytest.mark.parametrize("page", PAGES)
def test_the_blocks_of_a_page_are_all_read(page: str) -> None:
    assert len(blocks(page)) == PAGES[page]


@pytest.mark.parametrize("page", PAGES)
def test_a_page_runs_from_its_top(page: str) -> None:
    names = world()
    for number, block in enumerate(blocks(page)):
        BEFORE.get((page, number), lambda names: None)(names)
        run(block, names, f"{page}, block {number}")
