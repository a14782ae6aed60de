"""Accuracy, its interval and SQNR: every expected number below was worked out by hand."""

from __future__ import annotations

import math

import pytest
import torch
from hypothesis import given
from hypothesis import strategies as st
from torch import nn

from dovetail.analysis import accuracy, sqnr_db, wilson
from dovetail.errors import DovetailError


def test_wilson_at_one_half_by_hand() -> None:
    # n = 4, 2 hits, z = 1.96: z2/n = 0.9604; centre = (0.5 + 0.4802) / 1.9604 = 0.5;
    # half = 1.96/1.9604 * sqrt(0.25/4 + 3.8416/64) = 0.999796 * sqrt(0.122525) = 0.34996
    interval = wilson(2, 4)
    assert interval.value == 0.5
    assert interval.low == pytest.approx(0.5 - 0.34996, abs=2e-5)
    assert interval.high == pytest.approx(0.5 + 0.34996, abs=2e-5)


def test_wilson_against_newcombes_published_cases() -> None:
    # Newcombe, Statistics in Medicine 17 (1998), table I, method 3 (score without correction)
    for hits, n, low, high in [
        (81, 263, 0.2553, 0.3662),
        (15, 148, 0.0624, 0.1605),
        (0, 20, 0.0, 0.1611),
        (1, 29, 0.0061, 0.1718),
    ]:
        interval = wilson(hits, n)
        assert (round(interval.low, 4), round(interval.high, 4)) == (low, high)


@given(st.integers(1, 5000).flatmap(lambda n: st.tuples(st.integers(0, n), st.just(n))))
def test_wilson_holds_the_value_inside_0_to_1_and_is_symmetric(case: tuple[int, int]) -> None:
    hits, n = case
    seen, mirrored = wilson(hits, n), wilson(n - hits, n)
    assert 0 <= seen.low <= seen.value <= seen.high <= 1
    assert seen.low < seen.high
    assert seen.low == pytest.approx(1 - mirrored.high, abs=1e-12)


@pytest.mark.parametrize(("hits", "n"), [(-1, 3), (4, 3), (0, 0)])
def test_wilson_refuses_impossible_counts(hits: int, n: int) -> None:
    with pytest.raises(DovetailError, match=f"{hits} hits out of {n}"):
        wilson(hits, n)


def test_interval_as_text_and_values() -> None:
    assert str(wilson(703, 719)) == "97.8% [96.4%, 98.6%] (n=719)"
    assert wilson(1, 2).to_dict()["n"] == 2


def test_accuracy_counts_over_batches_of_different_size() -> None:
    logits = torch.tensor([[0.0, 2.0], [1.0, 0.0], [5.0, 4.0]])
    loader = [(logits[:2], torch.tensor([1, 1])), (logits[2:], torch.tensor([0]))]
    seen = accuracy(nn.Identity(), loader)
    assert (seen.value, seen.n) == (2 / 3, 3)


def test_accuracy_of_pixelwise_logits() -> None:
    logits = torch.zeros(1, 3, 2, 2)
    logits[0, 2, 0, 0] = 1
    target = torch.tensor([[[2, 0], [1, 0]]])
    assert accuracy(nn.Identity(), [(logits, target)]).value == 0.75


def test_accuracy_counts_nan_logits_as_wrong() -> None:
    logits = torch.tensor([[math.nan, 0.0], [0.0, 1.0]])
    assert accuracy(nn.Identity(), [(logits, torch.tensor([0, 1]))]).value == 0.5


def test_accuracy_runs_in_eval_mode_and_restores_each_modules_own() -> None:
    model = nn.Sequential(nn.Dropout(0.999), nn.BatchNorm1d(2).eval())
    x = torch.tensor([[1.0, 0.0]] * 50)
    assert accuracy(model, [(x, torch.zeros(50, dtype=torch.int64))]).value == 1.0
    assert [model.training, model[0].training, model[1].training] == [True, True, False]
    with pytest.raises(RuntimeError):
        accuracy(model, [(torch.zeros(1, 7), torch.zeros(1, dtype=torch.int64))])
    assert [model.training, model[0].training, model[1].training] == [True, True, False]


@pytest.mark.parametrize(
    ("loader", "message"),
    [
        ([], "no case"),
        ([(torch.zeros(2, 3), torch.zeros(3, dtype=torch.int64))], r"\(2, 3\).*\(3,\)"),
        ([(torch.zeros(2), torch.zeros(2, dtype=torch.int64))], "expected"),
        ([torch.zeros(2, 3)], "a batch must be"),
        ([("a", "b")], "target tensor"),
    ],
)
def test_accuracy_refuses(loader: list[object], message: str) -> None:
    with pytest.raises(DovetailError, match=message):
        accuracy(nn.Identity(), loader)


def test_sqnr_by_hand() -> None:
    # signal 1 + 4 + 9 = 14, noise 0.01 + 0.04 + 0.09 = 0.14: a ratio of 100, 20 dB
    reference = torch.tensor([1.0, 2.0, 3.0])
    assert sqnr_db(reference, reference + torch.tensor([0.1, -0.2, 0.3])) == pytest.approx(
        20, abs=1e-5
    )
    # noise twice as strong as the signal
    assert sqnr_db(torch.tensor([1.0]), torch.tensor([1.0 + math.sqrt(2)])) == pytest.approx(
        -3.0103, abs=1e-4
    )


def test_sqnr_at_the_ends() -> None:
    one, zero = torch.ones(2), torch.zeros(2)
    assert sqnr_db(one, one) == math.inf
    assert sqnr_db(zero, zero) == math.inf
    assert sqnr_db(zero, one) == -math.inf
    assert math.isnan(sqnr_db(one, torch.tensor([1.0, math.nan])))
    assert math.isnan(sqnr_db(torch.tensor([1.0, math.inf]), one))
    assert sqnr_db(torch.empty(0), torch.empty(0)) == math.inf


def test_sqnr_does_not_lose_small_noise_to_float32() -> None:
    reference = torch.full((10_000,), 4096.0)
    test = reference.clone()
    test[0] += 0.5
    assert sqnr_db(reference, test) == pytest.approx(10 * math.log10(4096**2 * 10_000 / 0.25))


def test_sqnr_refuses_two_shapes() -> None:
    with pytest.raises(DovetailError, match=r"\(2,\) and \(3,\)"):
        sqnr_db(torch.ones(2), torch.ones(3))


@given(st.floats(1e-3, 1e3), st.integers(0, 10))
def test_sqnr_does_not_depend_on_scale(scale: float, seed: int) -> None:
    generator = torch.Generator().manual_seed(seed)
    reference = torch.randn(64, generator=generator, dtype=torch.float64)
    test = reference + 0.1 * torch.randn(64, generator=generator, dtype=torch.float64)
    assert sqnr_db(scale * reference, scale * test) == pytest.approx(sqnr_db(reference, test))
