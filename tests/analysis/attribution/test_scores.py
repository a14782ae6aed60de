"""Metrics as sums over samples, the paired bootstrap, and how far tensors are from exact ones."""

from __future__ import annotations

import math
from typing import Any

import numpy as np
import pytest
import torch
from torch import nn

import dovetail as dv
from dovetail.analysis.attribution.compared import Compared, Divergence, same_bits
from dovetail.analysis.attribution.scores import (
    Metric,
    Scores,
    check_resampled,
    metric_for,
    resampled,
)
from dovetail.errors import DovetailError
from helpers import randn

TARGET = torch.randint(0, 5, (40,), generator=torch.Generator().manual_seed(1))
TOKENS = torch.randint(0, 5, (40, 3), generator=torch.Generator().manual_seed(1))


def scores(metric: Metric, *batches: Any) -> Scores:
    found = Scores()
    for output, target in batches:
        found.add(output, target, metric)
    return found


@pytest.mark.parametrize("name", ["accuracy", "loss", "perplexity"])
@pytest.mark.parametrize("target", [TARGET, TOKENS])
def test_sums_are_the_metric(name: str, target: torch.Tensor) -> None:
    logits = randn(*target.shape, 5)
    metric = metric_for(name, logits, target)
    found = scores(metric, (logits[:30], target[:30]), (logits[30:], target[30:]))
    whole = [(logits, target)]
    wanted = {
        "accuracy": lambda: dv.analysis.accuracy(nn.Identity(), whole).value,
        "perplexity": lambda: dv.analysis.perplexity(nn.Identity(), whole),
        "loss": lambda: math.log(dv.analysis.perplexity(nn.Identity(), whole)),
    }[name]()
    assert found.value(metric) == pytest.approx(wanted, rel=1e-12)


@pytest.mark.parametrize("name", ["accuracy", "loss", "perplexity"])
def test_resamples_are_those_of_the_definition(name: str) -> None:
    outputs = [randn(40, 5, seed=seed) for seed in range(3)]
    metric = metric_for(name, outputs[0], TARGET)
    base, *others = [scores(metric, (output, TARGET)) for output in outputs]
    found = resampled(metric, base, others, 20, seed=7)
    draw = np.random.default_rng(7)
    for row in found:
        index = torch.from_numpy(draw.integers(0, 40, 40))
        values = [scores(metric, (y[index], TARGET[index])).value(metric) for y in outputs]
        # losses are rounded to steps of 2**-20
        assert row == pytest.approx([value - values[0] for value in values[1:]], abs=1e-4)


def test_many_samples_are_weighed_a_few_resamples_at_a_time(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    outputs = [randn(40, 5, seed=seed) for seed in range(2)]
    metric = metric_for("accuracy", outputs[0], TARGET)
    base, other = [scores(metric, (output, TARGET)) for output in outputs]
    whole = resampled(metric, base, [other], 50, seed=1)
    monkeypatch.setattr("dovetail.analysis.attribution.scores._WEIGHTS", 100)
    assert np.array_equal(resampled(metric, base, [other], 50, seed=1), whole)


def test_a_user_s_metric_is_resampled_too() -> None:
    outputs = [randn(40, 5, seed=seed) for seed in range(2)]

    def own(model: nn.Module, loader: Any) -> Any:
        return dv.analysis.accuracy(model, loader)

    results = []
    for given in (own, "accuracy"):
        metric = metric_for(given, outputs[0], TARGET)
        base, other = [scores(metric, (output, TARGET)) for output in outputs]
        results.append(resampled(metric, base, [other], 25, seed=3))
    assert results[0] == pytest.approx(results[1])


def test_a_user_s_metric_without_rows_to_resample_is_refused() -> None:
    def own(_model: nn.Module, _loader: Any) -> float:
        return 0.5

    metric = metric_for(own, {"out": 1}, TARGET)
    found = scores(metric, ({"out": 1}, TARGET))
    assert (found.value(metric), found.loss) == (0.5, None)
    with pytest.raises(DovetailError, match="give resamples=0"):
        check_resampled(metric, {"out": 1}, TARGET)
    check_resampled(metric, randn(40, 5), TARGET)


def test_ignored_targets_count_for_nothing() -> None:
    logits, target = randn(40, 3, 5), TOKENS.clone()
    target[:, 1] = -100
    metric = metric_for("accuracy", logits, target)
    found = scores(metric, (logits, target))
    kept = scores(metric, (logits[:, ::2], TOKENS[:, ::2]))
    assert found.value(metric) == kept.value(metric)
    assert found.loss == pytest.approx(kept.loss)


def test_comparisons() -> None:
    exact, other = randn(7, 9), randn(7, 9, seed=1)
    found = Compared()
    found.add(exact[:3], other[:3])
    found.add(exact[3:], other[3:])
    cosine = torch.cosine_similarity(exact.double().flatten(), other.double().flatten(), 0)
    assert found.sqnr_db == pytest.approx(dv.analysis.sqnr_db(exact, other))
    assert found.cosine == pytest.approx(float(cosine))
    nothing = Compared()
    nothing.add(exact, exact)
    assert (nothing.sqnr_db, nothing.cosine) == (math.inf, 1.0)
    masked = Compared()
    hidden = torch.tensor([1.0, -math.inf])
    masked.add(hidden, torch.tensor([1.5, -math.inf]))
    assert masked.sqnr_db == pytest.approx(10 * math.log10(4))
    masked.add(hidden, torch.tensor([1.5, 2.0]))
    assert math.isnan(masked.sqnr_db)


def test_divergence() -> None:
    exact, other = randn(40, 3, 5), randn(40, 3, 5, seed=1)
    found = Divergence()
    found.add(exact, other, TOKENS)
    p, q = exact.double().log_softmax(-1), other.double().log_softmax(-1)
    divergence = (p.exp() * (p - q)).sum(-1)
    assert found.mean == pytest.approx(float(divergence.mean()))
    ignored = TOKENS.clone()
    ignored[:, 1] = -100
    found = Divergence()
    found.add(exact, other, ignored)
    assert found.mean == pytest.approx(float(divergence[:, ::2].mean()))


@pytest.mark.parametrize("dtype", [torch.float16, torch.bfloat16, torch.float32, torch.float64])
def test_bits(dtype: torch.dtype) -> None:
    x = torch.tensor([[0.0, 1.0], [math.nan, -math.inf]], dtype=dtype)
    assert same_bits(x, x.clone())
    assert same_bits(x.T, x.T.contiguous())
    assert not same_bits(x, -x)
    assert not same_bits(x, x.T.contiguous())
    assert not same_bits(x, x.reshape(4))
    assert not same_bits(x, x.to(torch.float64 if dtype != torch.float64 else torch.float32))


@pytest.mark.parametrize("name", ["accuracy", "loss"])
def test_intervals_cover_what_they_estimate(name: str) -> None:
    """Of 200 draws from a population, 95 % of the intervals hold its true change; and they are
    much narrower than unpaired ones."""
    draw = np.random.default_rng(5)
    hits, widths, unpaired = 0, [], []
    for seed in range(200):
        base, other = Scores(), Scores()
        right = draw.random(300) < 0.9
        lost, won = draw.random(300) < 0.06, draw.random(300) < 0.3
        hit = np.where(right, ~lost, won)  # changes by 0.1 * 0.3 - 0.9 * 0.06 on average
        losses = draw.exponential(1.0, 300)
        ones = np.ones(300)
        base.parts = [np.stack([right, losses, ones], 1)]
        other.parts = [np.stack([hit, losses + draw.normal(-0.024, 0.2, 300), ones], 1)]
        metric = metric_for(name, randn(2, 3), torch.tensor([0, 1]))
        low, high = np.percentile(resampled(metric, base, [other], 200, seed), (2.5, 97.5))
        hits += low <= -0.024 <= high
        widths.append(high - low)
        column = 0 if name == "accuracy" else 1
        both = base.parts[0][:, column].var() + other.parts[0][:, column].var()
        unpaired.append(2 * 1.96 * math.sqrt(both / 300))
    assert 0.9 <= hits / 200 <= 0.985
    assert np.mean(widths) < 0.8 * np.mean(unpaired)
