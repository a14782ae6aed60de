"""Observers of extremes against Python's own."""

from __future__ import annotations

import math

import pytest
import torch
from hypothesis import given
from hypothesis import strategies as st

import dovetail as dv
from dovetail.formats.observers import MinMax, MovingAverage, observer, range_by
from helpers import randn

INT8 = dv.format("int8")
floats = st.floats(-1e6, 1e6, width=32)
batches = st.lists(st.lists(floats, max_size=20), min_size=1, max_size=6)


def fed(seen, parts):
    for part in parts:
        seen.update(torch.tensor([part]))
    return tuple(float(end) for end in seen.range(INT8))


@given(batches)
def test_minmax_over_batches_is_that_of_all_at_once(parts):
    values = [v for part in parts for v in part]
    wanted = (min(values), max(values)) if values else (math.inf, -math.inf)
    assert fed(MinMax(), parts) == wanted


def test_moving_average_by_hand():
    seen = MovingAverage(0.75)
    assert fed(seen, [[-4.0, 8.0], [-8.0, 4.0], [0.0, 1.0]]) == (-3.75, 5.5)


def test_a_moving_average_of_one_batch_is_its_extremes():
    assert fed(observer("moving_average"), [[3.0, -7.0]]) == (-7.0, 3.0)


@pytest.mark.parametrize("spec", ["minmax", "moving_average(0.5)"])
def test_nan_is_left_out_and_infinity_kept_for_the_error(spec):
    seen = observer(spec)
    assert fed(seen, [[math.nan, 1.0, -2.0]]) == (-2.0, 1.0)
    assert fed(seen, [[math.inf]])[1] == math.inf


@pytest.mark.parametrize("spec", ["minmax", "moving_average", "percentile(100)", "mse", "entropy"])
def test_zeros_empty_and_rows(spec):
    seen = observer(spec)
    seen.update(torch.empty(2, 0))
    assert bool((seen.range(INT8)[0] > seen.range(INT8)[1]).all())
    seen.update(torch.tensor([[0.0, 0.0], [-1.0, 2.0]]))
    assert [r.tolist() for r in seen.range(INT8)] == [[0.0, -1.0], [0.0, 2.0]]
    with pytest.raises(dv.DovetailError, match="2 channels, and then a batch of 3"):
        seen.update(torch.ones(3, 1))


@pytest.mark.parametrize("dtype", [torch.float64, torch.float16, torch.bfloat16])
@pytest.mark.parametrize("spec", ["max", "moving_average", "percentile(100)"])
def test_other_dtypes(dtype, spec):
    x, seen = randn(1, 100).to(dtype), observer(spec)
    seen.update(x)
    assert [r.dtype for r in seen.range(INT8)] == [torch.float32] * 2
    assert [float(r) for r in seen.range(INT8)] == [float(x.min()), float(x.max())]


@pytest.mark.parametrize(
    ("spec", "message"),
    [
        ("percentil(9)", "unknown observer 'percentil'; did you mean 'percentile'?"),
        ("minmax(3)", "observer 'minmax(3)': minmax takes no argument, as in 'minmax'"),
        ("percentile(1, 2)", "percentile takes one number, as in 'percentile(99.9)'"),
        ("percentile(high)", "percentile takes one number"),
        ("percentile(0)", "percentile(0.0): the percentage lies in (0, 100]"),
        ("percentile(101)", "the percentage lies in (0, 100]"),
        ("moving_average(1)", "moving_average(1.0): the momentum lies in [0, 1)"),
        ("mse(3)", "mse takes no argument"),
        ("percentile(momentum=9)", "unknown argument in 'percentile(momentum=9)': 'momentum'"),
        ("mse(percent=9)", "unknown argument in 'mse(percent=9)': 'percent'"),
    ],
)
def test_refusals(spec, message):
    with pytest.raises(dv.DovetailError) as raised:
        observer(spec)
    assert message in str(raised.value)
    with pytest.raises(dv.DovetailError):
        dv.format(f"int8(observer={spec})")


def test_what_is_no_text_is_refused():
    with pytest.raises(dv.DovetailError, match=r"observer=3: give its name, 'minmax'"):
        observer(3)


def test_a_number_may_be_named():
    assert observer("percentile(percent=99)").criterion == observer("percentile(99)").criterion
    assert observer("moving_average(momentum=0.5)").momentum == 0.5


@pytest.mark.parametrize("spec", ["minmax", "moving_average", "percentile", "mse", "l2", "entropy"])
def test_rows_without_values_have_no_range(spec):
    nothing, seen = [[torch.inf] * 2, [-torch.inf] * 2], observer(spec)
    assert [end.tolist() for end in range_by(spec, INT8, torch.zeros(2, 0))] == nothing
    seen.update(torch.zeros(2, 0))
    assert [end.tolist() for end in seen.range(INT8)] == nothing
