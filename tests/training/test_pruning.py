"""Schedules, and models that are pruned along them."""

from __future__ import annotations

import pytest
import torch
from torch import nn

import dovetail as dv
from dovetail.analysis import masks
from dovetail.errors import DovetailError
from dovetail.sparsity import Schedule, schedule

X = torch.randn(8, 16, generator=torch.Generator().manual_seed(0))
BATCHES = [(X, torch.arange(8) % 4)] * 5


def net(text: str = "topk(0.25)") -> nn.Sequential:
    torch.manual_seed(0)
    model = nn.Sequential(nn.Linear(16, 8), nn.ReLU(), nn.Linear(8, 4))
    dv.apply_(model, dv.Recipe(dv.rule("*", sparsity=text)), X)
    return model


def test_the_cubic_schedule_is_zhu_and_guptas() -> None:
    cubic = Schedule("cubic", begin=0.2, end=0.8)
    for progress in (0.0, 0.2, 0.35, 0.5, 0.79, 0.8, 1.0):
        done = min(1.0, max(0.0, (progress - 0.2) / 0.6))
        sparsity = 0.9 + (0.0 - 0.9) * (1 - done) ** 3
        assert cubic.density(progress, 0.1) == pytest.approx(1 - sparsity)
    assert Schedule("linear", end=1.0, initial=0.5).density(0.5, 0.1) == pytest.approx(0.3)
    assert Schedule(initial=0.1).density(0.0, 0.5) == 0.5  # never fewer than in the end


@pytest.mark.parametrize("text", ["cubic", "linear(begin=0.1, end=0.5, every=10, initial=0.9)"])
def test_schedules_are_spelt(text: str) -> None:
    assert str(schedule(text)) == text
    assert schedule(str(schedule(text))) == schedule(text)


@pytest.mark.parametrize(
    ("text", "message"),
    [
        ("cubik", "did you mean 'cubic'"),
        ("cubic(ends=1.0)", "did you mean 'end'"),
        ("cubic(0.5)", "name its arguments"),
        ("cubic(begin=0.5, end=0.2)", "cannot begin at 0.5 and end at 0.2"),
        ("cubic(end=2.0)", "end=2.0 of a schedule lies between 0 and 1"),
        ("cubic(every=0)", "every=0 of a schedule is a number of steps"),
    ],
)
def test_schedules_are_refused(text: str, message: str) -> None:
    with pytest.raises(DovetailError, match=message):
        schedule(text)


def test_densities_fall_and_end_at_the_recipes() -> None:
    model = net()
    pruning = dv.Pruning(model, "cubic(every=2)", steps=20)
    seen = [masks(model, X).density]
    for _ in range(20):
        pruning.step()
        seen.append(masks(model, X).density)
    assert seen[0] == 1.0
    assert seen == sorted(seen, reverse=True)
    assert seen[1] == seen[0] != seen[2] == seen[3]
    assert seen[15:] == [0.25] * 6
    assert masks(model, X)["0"].sparsity == "topk(0.25)"


def test_fit_prunes() -> None:
    model = net("2:8")
    found: list[float] = []
    dv.fit(
        model,
        BATCHES,
        epochs=4,
        prune="linear(end=0.9)",
        progress=False,
        on_epoch=lambda *_: found.append(masks(model, X).density),
    )
    assert found == sorted(found, reverse=True)
    assert found[0] > found[-1] == 0.25


@pytest.mark.parametrize(
    ("text", "message"),
    [
        ("topk(0.5, fixed)", "0: the mask of 'topk.*leave out 'fixed'"),
        ("bernoulli", "0: 'bernoulli' has no density"),
        ("dense", "nothing to prune"),
    ],
)
def test_what_no_schedule_can_prune_is_refused(text: str, message: str) -> None:
    model = net() if text == "dense" else net(text)
    if text == "dense":
        dv.remove_(model)
        dv.apply_(model, dv.Recipe(dv.rule("*", weight="int8")), X)
    with pytest.raises(DovetailError, match=message):
        dv.Pruning(model, "cubic", steps=10)


def test_a_stream_has_no_end() -> None:
    with pytest.raises(DovetailError, match="a loader with a length"):
        dv.fit(net(), iter(BATCHES), prune="cubic", progress=False)
