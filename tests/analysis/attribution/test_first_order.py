"""Predicted changes of the loss: exact where the loss is linear, close where errors are small."""

from __future__ import annotations

from typing import Any

import numpy as np
import pytest
import torch
from torch import Tensor, nn

import dovetail as dv
from dovetail.analysis import first_order
from dovetail.analysis.attribution.chosen import chosen
from dovetail.analysis.attribution.first_order import FirstOrder
from dovetail.errors import DovetailError
from helpers import INT8, build, randn
from recovery.models import Block


def classifier(**fields: str) -> tuple[nn.Module, list[Any]]:
    model = build(0, lambda: nn.Sequential(nn.Linear(6, 8), nn.Tanh(), nn.Linear(8, 3)))
    x = randn(24, 6)
    target = torch.randint(0, 3, (24,), generator=torch.Generator().manual_seed(0))
    dv.apply_(model, dv.Recipe(dv.rule("*", **fields)), x)
    return model, [(x[:16], target[:16]), (x[16:], target[16:])]


def mean_of_first(output: Tensor, _target: Tensor) -> Tensor:
    return output[:, 0].mean()


def test_a_loss_that_is_linear_in_the_errors_is_predicted_exactly() -> None:
    model, loader = classifier(**INT8, mul="broken_array(bits=8, drop_columns=5)", acc="int13")
    predicted = first_order(model, loader, loss=mean_of_first)

    def metric(model: nn.Module, loader: Any) -> float:
        return float(torch.cat([model(x)[:, 0] for x, _ in loader]).double().mean())

    measured = dv.attribute(model, loader, metric, resamples=0)
    assert list(predicted) == [(row.op, row.source) for row in measured]
    for (op, source), change in predicted.items():
        if op == "2":  # the first layer's errors pass a tanh
            assert change == pytest.approx(measured[op, source].delta_metric, rel=1e-3, abs=1e-7)
    assert max(map(abs, predicted.values())) > 1e-3


def test_small_errors_are_predicted_closely() -> None:
    model, loader = classifier(input="int10", weight="int10", output="bf16")
    found = dv.attribute(model, loader, mode="first_order", resamples=200)
    measured = dv.attribute(model, loader, "loss", resamples=0)
    assert found.exact_loss == pytest.approx(measured.exact_loss)
    assert found.emulated_loss == pytest.approx(measured.emulated_loss)
    for row in found:
        actual = measured[row.op, row.source].delta_metric
        assert row.delta_metric == pytest.approx(actual, rel=0.05, abs=2e-7)
        assert row.ci_low <= row.delta_metric <= row.ci_high
        alone = measured[row.op, row.source].isolated_sqnr_db
        assert row.isolated_sqnr_db == pytest.approx(alone, abs=0.1)


def test_the_curvature_is_that_of_the_divergence() -> None:
    """Half of ``e G e`` is the Kullback-Leibler divergence to second order; on average."""
    model, loader = classifier(weight="int6")
    measured = dv.attribute(model, loader, "loss", resamples=0)
    bends: dict[tuple[str, str], list[float]] = {}
    for seed in range(60):
        found = dv.attribute(model, loader, mode="first_order", resamples=0, seed=seed)
        for row in found:
            bends.setdefault((row.op, row.source), []).append(row.accumulated_kl)
    for key, values in bends.items():
        assert np.mean(values) == pytest.approx(measured[key].accumulated_kl, rel=0.15)


def test_predictions_rank_what_is_measured() -> None:
    """Over operations and sources whose errors differ by orders of magnitude."""
    torch.manual_seed(0)
    model = build(0, lambda: nn.Sequential(Block(), nn.Flatten(1), nn.Linear(5 * 16, 3)))
    x = randn(64, 5, 16)
    with torch.no_grad():
        target = model(x).argmax(1)
    rules = [dv.rule("*", input="int8", weight="int5"), dv.rule(op="softmax", fn="poly2(fp16)")]
    dv.apply_(model, dv.Recipe(*rules, dv.rule("0.up", weight="int3")), x)
    predicted = first_order(model, [(x, target)])
    measured = dv.attribute(model, [(x, target)], resamples=0)
    pairs = [(predicted[row.op, row.source], row.delta_loss) for row in measured]
    ranks = np.argsort(np.argsort(np.asarray(pairs), axis=0), axis=0)
    assert np.corrcoef(ranks.T)[0, 1] > 0.9
    assert max(measured, key=lambda row: row.delta_loss).op == max(predicted, key=predicted.get)[0]


def test_operations_called_at_every_step_are_summed() -> None:
    class Steps(nn.Module):
        def __init__(self) -> None:
            super().__init__()
            self.cell = nn.Linear(4, 4)

        def forward(self, x: Tensor) -> Tensor:
            return self.cell(x) + 2 * self.cell(3 * x)

    model, x = build(0, Steps), randn(5, 4)
    dv.apply_(model, dv.Recipe(dv.rule("*", weight="int4")), x)
    (change,) = first_order(model, [(x, x[:, 0])], loss=mean_of_first).values()
    with torch.no_grad():
        error = model.cell(x) - nn.functional.linear(x, model.cell.weight, model.cell.bias)
    assert change == pytest.approx(float(7 * error[:, 0].mean()), rel=1e-4)


def test_results_without_a_row_for_each_sample_have_no_interval() -> None:
    class Turned(nn.Module):
        def __init__(self) -> None:
            super().__init__()
            self.a, self.b = nn.Linear(4, 6), nn.Linear(6, 3)

        def forward(self, x: Tensor) -> Tensor:
            return self.b(self.a(x.transpose(0, 1)).mean(0))

    model, x = build(0, Turned), randn(8, 5, 4)
    target = torch.arange(8) % 3
    dv.apply_(model, dv.Recipe(dv.rule("*", weight="int4")), x)
    found = dv.attribute(model, [(x, target)], mode="first_order", resamples=50)
    assert found["a", "weight"].ci_low is None
    assert found["b", "weight"].ci_low is not None
    measured = dv.attribute(model, [(x, target)], "loss", resamples=0)
    for row in found:
        assert row.delta_metric == pytest.approx(
            measured[row.op, row.source].delta_metric, abs=0.3 * abs(row.delta_metric) + 1e-3
        )


def test_a_forward_without_gradients_is_refused() -> None:
    class Frozen(nn.Linear):
        @torch.no_grad()
        def forward(self, x: Tensor) -> Tensor:
            return super().forward(x)

    model, x = Frozen(4, 3), randn(8, 4)
    dv.apply_(model, dv.Recipe(dv.rule("*", weight="int4")), x)
    with pytest.raises(DovetailError, match="does the model's forward run without gradients"):
        first_order(model, [(x, torch.arange(8) % 3)])


def test_losses_must_be_one_number() -> None:
    model, loader = classifier(weight="int4")
    with pytest.raises(DovetailError, match="is one number, a mean"):
        first_order(model, loader, loss=lambda output, target: output)
    with pytest.raises(DovetailError, match="the loader gave no sample"):
        first_order(model, [])


def test_only_the_reference_is_differentiated() -> None:
    model, loader = classifier(**INT8)
    FirstOrder(model, chosen(model)).add((loader[0][0],), loader[0][1])
    assert all(p.grad is None for p in model.parameters())


def test_ignored_targets_count_for_nothing() -> None:
    """The mean is over the targets that are left, as that of the exact mode."""
    model = build(0, lambda: nn.Sequential(nn.Linear(6, 8), nn.Tanh(), nn.Linear(8, 3)))
    x = randn(12, 4, 6)
    target = torch.randint(0, 3, (12, 4), generator=torch.Generator().manual_seed(0))
    target[:5, 1:] = -100
    target[8:] = -100
    dv.apply_(model, dv.Recipe(dv.rule("*", input="int10", weight="int10")), x)
    loader = [(x[:3], target[:3]), (x[3:8], target[3:8]), (x[8:], target[8:])]
    found = dv.attribute(model, loader, mode="first_order", resamples=100)
    measured = dv.attribute(model, loader, "loss", resamples=100)
    assert found.samples == measured.samples == 12
    assert found.exact_loss == pytest.approx(measured.exact_loss)
    assert found.emulated_loss == pytest.approx(measured.emulated_loss)
    for row in found:
        other = measured[row.op, row.source]
        assert row.delta_metric == pytest.approx(other.delta_metric, rel=0.05, abs=1e-6)
        assert row.ci_low == pytest.approx(other.ci_low, rel=0.1, abs=1e-5)
        assert row.ci_high == pytest.approx(other.ci_high, rel=0.1, abs=1e-5)
    predicted = first_order(model, loader)
    assert predicted == {(row.op, row.source): row.delta_metric for row in found}
