"""Observers against NumPy's and torch's own answers."""

from __future__ import annotations

import math

import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st

import dovetail as dv
from dovetail.calibration import MinMax, Percentile, observer
from helpers import randn

floats = st.floats(-1e6, 1e6, width=32)
batches = st.lists(st.lists(floats, max_size=20), min_size=1, max_size=6)


def fed(seen, parts):
    for part in parts:
        seen.update(torch.tensor(part))
    return tuple(map(float, seen.range()))


@given(batches)
def test_minmax_over_batches_is_that_of_all_at_once(parts):
    values = [v for part in parts for v in part]
    if values:
        assert fed(MinMax(), parts) == (min(values), max(values))
    else:
        assert fed(MinMax(), parts) == (math.inf, -math.inf)


@settings(max_examples=60)
@given(batches, st.floats(1, 100))
def test_percentile_lies_within_a_bin_of_the_sorted_values(parts, percent):
    seen = Percentile(percent)
    low, high = fed(seen, parts)
    values = sorted(abs(v) for part in parts for v in part)
    if not values or values[-1] == 0:
        return
    place = max(0, math.ceil(percent / 100 * len(values)) - 1)
    edge = max(-low, high)
    assert edge <= values[-1] * (1 + 1e-6)
    assert values[place] - 1e-6 * values[-1] <= edge + seen.width
    assert edge <= values[place] + seen.width * 1.001 + 1e-6 * values[-1]


@pytest.mark.parametrize("percent", [50.0, 90.0, 99.0, 99.9, 100.0])
def test_percentile_is_within_a_bin_of_torch_quantile(percent):
    x = randn(20000, seed=1)
    for parts in (1, 7):
        seen = Percentile(percent)
        for part in (x * torch.linspace(0.1, 1, 20000)).chunk(parts):
            seen.update(part)
        wanted = (x * torch.linspace(0.1, 1, 20000)).abs().quantile(percent / 100)
        low, high = seen.range()
        assert float(torch.maximum(-low, high)) == pytest.approx(float(wanted), abs=2 * seen.width)


def test_percentile_100_is_minmax():
    x = randn(1000)
    seen = Percentile(100.0)
    for part in x.chunk(9):
        seen.update(part * 3)
    assert tuple(map(float, seen.range())) == (float(x.min() * 3), float(x.max() * 3))


def test_one_sided_values_keep_their_side():
    seen = Percentile(90.0)
    seen.update(torch.arange(1.0, 101.0))
    low, high = seen.range()
    assert float(low) == 1.0
    assert 89.0 <= float(high) <= 91.0


def test_first_batch_tiny_then_large():
    seen = Percentile(99.0)
    seen.update(torch.full((10,), 1e-30))
    seen.update(torch.linspace(0, 1e6, 10000))
    assert float(seen.range()[1]) == pytest.approx(0.99e6, rel=0.01)


@pytest.mark.parametrize("seen", [MinMax(), Percentile(100.0)])
def test_nan_is_left_out_and_infinity_kept_for_the_error(seen):
    seen.update(torch.tensor([math.nan, 1.0, -2.0]))
    assert tuple(map(float, seen.range())) == (-2.0, 1.0)
    seen.update(torch.tensor([math.inf]))
    assert math.isinf(float(seen.range()[1])) or isinstance(seen, Percentile)


@pytest.mark.parametrize("seen", [MinMax(), Percentile(99.0)])
def test_zeros_and_empty(seen):
    seen.update(torch.empty(0))
    seen.update(torch.zeros(5))
    assert tuple(map(float, seen.range())) == (0.0, 0.0)


@pytest.mark.parametrize("dtype", [torch.float64, torch.float16, torch.bfloat16])
def test_other_dtypes(dtype):
    x = randn(100).to(dtype)
    for seen in (MinMax(), Percentile(100.0)):
        seen.update(x)
        assert [r.dtype for r in seen.range()] == [torch.float32] * 2
        assert tuple(map(float, seen.range())) == (float(x.min()), float(x.max()))


@pytest.mark.parametrize(
    ("spec", "message"),
    [
        ("percentil(9)", "unknown observer 'percentil'; did you mean 'percentile'?"),
        ("percentile", "observer 'percentile': 'minmax' takes no argument, 'percentile(99.9)' one"),
        ("minmax(3)", "'minmax' takes no argument"),
        ("percentile(0)", "percentile(0.0): the percentage lies in (0, 100]"),
        ("percentile(101)", "the percentage lies in (0, 100]"),
        ("percentile(high)", "'percentile(99.9)' one"),
    ],
)
def test_refusals(spec, message):
    with pytest.raises(dv.DovetailError) as raised:
        observer(spec)
    assert message in str(raised.value)
