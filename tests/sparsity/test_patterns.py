"""Masks: exact counts, the stated rule for ties, equality with the one-element-at-a-time one."""

from __future__ import annotations

import math
from fractions import Fraction

import numpy as np
import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st

from dovetail.errors import DovetailError
from dovetail.sparsity import Bernoulli, Blocks, Dense, NofM, Pattern, TopK, reference
from dovetail.sparsity.order import largest

#: Few different values, so that ties are the rule; and what is no ordinary number.
VALUES = st.sampled_from([0.0, -0.0, 1.0, 2.0, -1.0, math.inf, -math.inf, math.nan, 5e-324, 1e-45])
DTYPES = st.sampled_from([torch.float32, torch.float64, torch.bfloat16, torch.float16])


def scores_of(draw: st.DrawFn, *shape: int) -> torch.Tensor:
    size = math.prod(shape)
    values = draw(st.lists(VALUES, min_size=size, max_size=size))
    return torch.tensor(values, dtype=torch.float64).to(draw(DTYPES)).view(shape)


def plain(scores: torch.Tensor) -> np.ndarray:
    return scores.to(torch.float64).numpy()


@given(st.data(), st.integers(1, 40), st.floats(0, 1))
@settings(max_examples=150, deadline=None)
def test_top_k_keeps_the_stated_count_and_the_stated_ones(
    data: st.DataObject, size: int, share: float
) -> None:
    scores = scores_of(data.draw, size)
    mask = TopK(share).mask(scores)
    count = math.ceil(Fraction(repr(share)) * size)
    assert int(mask.sum()) == count == TopK(share).kept((size,))
    assert np.array_equal(mask.numpy(), reference.top_k(plain(scores), count))


@given(st.data(), st.integers(1, 20), st.integers(1, 3), st.sampled_from([0, 1, -1, -2]))
@settings(max_examples=150, deadline=None)
def test_n_of_m_keeps_n_of_every_run(data: st.DataObject, of: int, runs: int, axis: int) -> None:
    keep = data.draw(st.integers(1, of))
    shape = [2, 2]
    shape[axis] = of * runs
    scores = scores_of(data.draw, *shape)
    mask = NofM(keep, of, axis).mask(scores)
    assert mask.is_contiguous()
    assert set(mask.movedim(axis, -1).reshape(-1, of).sum(-1).tolist()) == {keep}
    assert np.array_equal(mask.numpy(), reference.n_of_m(plain(scores), keep, of, axis))
    assert int(mask.sum()) == NofM(keep, of, axis).kept(shape)


@given(st.data(), st.integers(1, 3), st.integers(1, 3), st.integers(1, 3), st.integers(1, 3))
@settings(max_examples=100, deadline=None)
def test_blocks_are_kept_whole(
    data: st.DataObject, rows: int, columns: int, down: int, across: int
) -> None:
    share = data.draw(st.floats(0, 1))
    scores = scores_of(data.draw, rows * down, columns * across)
    pattern = Blocks(rows, columns, share)
    mask = pattern.mask(scores)
    count = math.ceil(Fraction(repr(share)) * down * across)
    expected = reference.block_mask(plain(scores), rows, columns, count)
    assert np.array_equal(mask.numpy(), expected)
    assert int(mask.sum()) == pattern.kept(scores.shape)


@given(st.data(), st.integers(0, 2**32 - 1))
@settings(max_examples=50, deadline=None)
def test_bernoulli_draws_with_philox(data: st.DataObject, seed: int) -> None:
    scores = torch.tensor(data.draw(st.lists(st.floats(-1, 2), min_size=1, max_size=30)))
    mask = Bernoulli(seed=seed).mask(scores)
    assert np.array_equal(mask.numpy(), reference.bernoulli(plain(scores), seed))
    other = Bernoulli(seed=seed).mask(scores, stream=1)
    assert np.array_equal(other.numpy(), reference.bernoulli(plain(scores), seed | 1 << 32))


def test_bernoulli_keeps_about_its_share_and_does_not_depend_on_layout() -> None:
    pattern = Bernoulli(0.3, seed=7)
    scores = torch.zeros(400, 250)
    mask = pattern.mask(scores)
    assert abs(mask.float().mean() - 0.3) < 0.01
    assert torch.equal(pattern.mask(scores.mT.contiguous().mT), mask)
    assert pattern.mask(torch.full((3,), math.nan)).sum() <= 3
    assert Bernoulli().mask(torch.tensor([math.nan])).all()


def test_what_is_not_a_number_is_kept() -> None:
    scores = torch.tensor([math.inf, math.nan, 3.0, -math.inf])
    assert TopK(0.25).mask(scores).tolist() == [False, True, False, False]
    assert largest(scores, 2).tolist() == [True, True, False, False]


@pytest.mark.parametrize("size", [8, 64, 1000])
def test_of_equal_scores_the_earlier_are_kept(size: int) -> None:
    mask = TopK(0.25).mask(torch.ones(size))
    assert mask[: size // 4].all()
    assert not mask[size // 4 :].any()


def test_large_and_strided_scores_equal_the_reference() -> None:
    torch.manual_seed(0)
    scores = torch.randn(60, 40).round(decimals=1).T
    assert np.array_equal(TopK(0.3).mask(scores).numpy(), reference.top_k(plain(scores), 720))
    per_output = TopK(0.3, per_output=True).mask(scores)
    expected = [reference.top_k(row, 18) for row in plain(scores)]
    assert np.array_equal(per_output.numpy(), np.stack(expected))
    wide = NofM(5, 20, 1).mask(scores)
    assert np.array_equal(wide.numpy(), reference.n_of_m(plain(scores), 5, 20, 1))


@pytest.mark.parametrize(
    "pattern",
    [Dense(), TopK(0.5), TopK(0.5, per_output=True), NofM(1, 2), Blocks(1, 1, 0.5), Bernoulli(0.5)],
)
@pytest.mark.parametrize("shape", [(0,), (0, 4), (3, 0)])
def test_empty_weights_have_empty_masks(pattern: Pattern, shape: tuple[int, ...]) -> None:
    assert pattern.mask(torch.zeros(shape)).shape == shape


def test_convolutions_are_pruned_along_their_channels_and_as_a_matrix() -> None:
    torch.manual_seed(0)
    scores = torch.rand(4, 8, 3, 3)
    mask = NofM(2, 4).mask(scores, axis=1)
    assert (mask.view(4, 2, 4, 3, 3).sum(2) == 2).all()
    tiles = Blocks(2, 9, 0.5).mask(scores).view(2, 2, 8, 9)
    assert (tiles.all(3).all(1) == tiles.any(3).any(1)).all()


@pytest.mark.parametrize(
    ("make", "message"),
    [
        (lambda: NofM(5, 4), "'5:4' would keep 5 of every 4; the nearest that can be is '4:4'"),
        (lambda: NofM(0, 4), "the nearest that can be is '1:4'"),
        (lambda: TopK(1.5), "1.5 is no share of the weights"),
        (lambda: Blocks(0, 4, 0.5), "sizes are 1 or more"),
        (lambda: Bernoulli(0.5, seed=-1), "a whole number of 32 bits"),
        (lambda: NofM(2, 4).check((3, 6)), "length 6 is no multiple of 4.*divides it is '2:3'"),
        (lambda: NofM(2, 4, 3).check((3, 8)), "axis 3, which a weight \\(3, 8\\) has not"),
        (lambda: Blocks(4, 4, 0.5).check((8, 6)), "its 6 columns are no multiple of 4; .* is 3"),
        (lambda: Bernoulli().at_density(0.5), "no density that a schedule could change"),
    ],
)
def test_refusals_name_the_nearest(make: object, message: str) -> None:
    with pytest.raises(DovetailError, match=message):
        make()  # type: ignore[operator]


@pytest.mark.parametrize("pattern", [TopK(0.25), NofM(1, 4), Blocks(2, 2, 0.25), Bernoulli(0.25)])
def test_a_schedule_keeps_more_on_the_way(pattern: Pattern) -> None:
    assert pattern.at_density(1.0).mask(torch.rand(4, 4)).all()
    assert pattern.at_density(0.25) == pattern
