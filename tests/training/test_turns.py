"""One model trained under several recipes in turn."""

from __future__ import annotations

from collections.abc import Mapping
from pathlib import Path

import pytest
import torch
from torch import nn

import dovetail as dv
from dovetail.analysis import accuracy
from dovetail.errors import DovetailError
from dovetail.training.snapshot import tensors
from helpers import randn

X = randn(48, 6)
Y = (X[:, 0] > X[:, 1]).long()
BATCHES = [(X[i : i + 8], Y[i : i + 8]) for i in range(0, 40, 8)]
RECIPES = {
    "exact": dv.Recipe(),
    "mild": dv.Recipe(dv.rule("*", input="int8", weight="int8", mul="mul8s_1KV9")),
    "rough": dv.Recipe(dv.rule("*", input="int8", weight="int8", mul="mul8s_1L12")),
}


def net(norms: str = "affine") -> nn.Sequential:
    torch.manual_seed(0)
    model = nn.Sequential(nn.Linear(6, 12), nn.BatchNorm1d(12), nn.ReLU(), nn.Linear(12, 2))
    dv.apply_several_(model, RECIPES, X, norms=norms)
    return model


def test_each_batch_takes_the_next_recipe_by_hand() -> None:
    model, by_hand = net(), net()
    optimizer = torch.optim.SGD(by_hand.parameters(), lr=0.1)
    for _ in range(2):
        for i, (x, y) in enumerate(BATCHES):
            dv.switch(by_hand, list(RECIPES)[i % 3])
            optimizer.zero_grad()
            nn.functional.cross_entropy(by_hand(x), y).backward()
            optimizer.step()
    dv.switch(by_hand, "exact")
    sgd = torch.optim.SGD
    options = {"optimizer": sgd, "lr": 0.1, "schedule": "constant", "progress": False}
    dv.fit(model, BATCHES, epochs=2, alternate=True, **options)  # type: ignore[arg-type]
    one, other = tensors(model), tensors(by_hand)
    assert one.keys() == other.keys()
    assert all(torch.equal(value, other[name]) for name, value in one.items())


def test_evaluation_is_the_mean_over_the_recipes() -> None:
    model = net()
    seen = dv.fit(
        model, BATCHES, epochs=2, alternate=True, evaluate=(BATCHES, accuracy), progress=False
    )
    found = []
    for name in dv.recipes(model):
        dv.switch(model, name)
        found.append(accuracy(model, BATCHES).value)
    assert seen.metrics[seen.best or 0] == pytest.approx(sum(found) / 3)


def test_goes_on_to_the_same_bits(tmp_path: Path) -> None:
    class Until:
        def log(self, step: int, values: Mapping[str, float]) -> None:
            if step == 7:
                raise KeyboardInterrupt

    def train(model: nn.Module, **more: object) -> None:
        options = {"epochs": 3, "lr": 0.05, "seed": 0, "alternate": True, "progress": False}
        dv.fit(model, BATCHES, **(options | more))  # type: ignore[arg-type]

    straight, model = net(), net()
    train(straight)
    saved = {"checkpoint": tmp_path, "checkpoint_every": 1}
    with pytest.raises(KeyboardInterrupt):
        train(net(), logger=Until(), **saved)
    train(model, **saved)
    one, other = tensors(model), tensors(straight)
    assert all(torch.equal(value, other[name]) for name, value in one.items())


def test_own_statistics_are_better_than_shared_ones() -> None:
    """The point of it all: after the same training, each recipe with its own statistics."""
    found = {}
    for norms in ("statistics", "shared"):
        model = net(norms)
        dv.fit(model, BATCHES, epochs=30, lr=0.02, alternate=True, seed=0, progress=False)
        dv.switch(model, "rough")
        found[norms] = accuracy(model, [(X, Y)]).value
    assert found["statistics"] > found["shared"]


def test_one_recipe_has_no_turns() -> None:
    model = nn.Linear(6, 2)
    with pytest.raises(DovetailError, match="no several recipes"):
        dv.fit(model, BATCHES, alternate=True, progress=False)
