"""Looking at the model while it trains: budgets, and the best epoch."""

from __future__ import annotations

import math
from collections.abc import Callable

import pytest
import torch
from torch import nn

import dovetail as dv
from dovetail.analysis import accuracy
from dovetail.emulation.taps import exact
from dovetail.errors import DovetailError
from dovetail.training import FitResult, fit
from helpers import randn

X = randn(64, 6)
BATCHES = [(X, (X[:, 0] > X[:, 1]).long())]


def net() -> nn.Sequential:
    torch.manual_seed(0)
    return nn.Sequential(nn.Linear(6, 8), nn.Dropout(0.5), nn.ReLU(), nn.Linear(8, 2))


def quiet(model: nn.Module, **options: object) -> FitResult:
    return fit(model, BATCHES, progress=False, lr=0.05, **options)  # type: ignore[arg-type]


def scripted(values: list[float], seen: list[bool] | None = None) -> Callable[[nn.Module], float]:
    rest = iter(values)

    def evaluate(model: nn.Module) -> float:
        if seen is not None:
            seen.append(model.training or torch.is_grad_enabled())
        return next(rest)

    return evaluate


def test_a_function_or_a_loader_with_a_metric() -> None:
    model = net()
    plain = quiet(model, epochs=3, evaluate=lambda m: accuracy(m, BATCHES).value, seed=0)
    pair = quiet(net(), epochs=3, evaluate=(BATCHES, accuracy), seed=0)
    assert plain == pair
    assert len(plain.metrics) == 4
    assert plain.metrics[plain.best or 0] == max(plain.metrics)
    assert plain.exact is None
    assert not plain.stopped


def test_it_looks_in_eval_mode_and_changes_nothing() -> None:
    seen: list[bool] = []
    looked, model, other = net(), net(), net()
    quiet(looked, epochs=2, seed=1, evaluate=scripted([0.1, 0.2, 0.3], seen))
    quiet(model, epochs=2, seed=1)
    assert seen == [False] * 3
    for a, b in zip(looked.parameters(), model.parameters(), strict=True):
        assert torch.equal(a, b)

    def drawing(m: nn.Module) -> float:
        return float(torch.rand(1))

    quiet(other, epochs=2, seed=1, evaluate=drawing, keep_best=False)
    for a, b in zip(other.parameters(), model.parameters(), strict=True):
        assert torch.equal(a, b)


@pytest.mark.parametrize(
    ("goal", "values", "best"),
    [
        ("max", [0.1, 0.9, 0.9, 0.3], 1),
        ("min", [0.5, 0.9, 0.3, 0.4], 2),
        ("max", [0.9, 0.1, 0.2, 0.3], 0),
        ("max", [math.nan, 0.1, math.nan, 0.05], 1),
    ],
)
def test_the_best_epoch_stays(goal: str, values: list[float], best: int) -> None:
    model, weights = net(), []

    def keep(m: nn.Module) -> float:
        weights.append(m[0].weight.detach().clone())
        return values[len(weights) - 1]

    result = quiet(model, epochs=3, evaluate=keep, goal=goal)
    assert result.best == best
    assert torch.equal(model[0].weight, weights[best])
    model = net()
    weights.clear()
    quiet(model, epochs=3, evaluate=keep, goal=goal, keep_best=False)
    assert torch.equal(model[0].weight, weights[-1])


def test_buffers_of_the_best_epoch_stay_too() -> None:
    model = nn.Sequential(nn.BatchNorm1d(6), nn.Linear(6, 2))
    quiet(model, epochs=2, evaluate=scripted([0.9, 0.1, 0.2]))
    assert model[0].num_batches_tracked == 0


def test_a_budget_stops_at_the_exact_models_number() -> None:
    model = net()
    dv.apply_(model, dv.Recipe(dv.rule("*", input="int8", weight="int8", mul="mul8s_1L12")), X)
    with exact(model):
        best = accuracy(model, BATCHES).value
    seen = quiet(model, epochs=50, evaluate=(BATCHES, accuracy), budget=0.05, seed=0)
    assert seen.exact == best
    assert seen.stopped
    assert len(seen.losses) < 50
    assert seen.exact - seen.metrics[-1] <= 0.05
    assert all(seen.exact - early > 0.05 for early in seen.metrics[:-1])
    assert quiet(model, evaluate=(BATCHES, accuracy), budget=1.0).losses == ()


def test_refusals() -> None:
    for options, message in [
        ({"evaluate": 3}, "evaluate=3"),
        ({"evaluate": lambda m: "good"}, "it gives a number"),
        ({"evaluate": lambda m: 1.0, "goal": "most"}, "unknown goal 'most'"),
        ({"evaluate": lambda m: 1.0, "budget": 0.1}, "not emulated"),
        ({"evaluate": lambda m: 1.0, "budget": -0.1}, "not emulated|budget"),
        ({"budget": 0.1}, "Give evaluate"),
    ]:
        with pytest.raises(DovetailError, match=message):
            quiet(net(), **options)
