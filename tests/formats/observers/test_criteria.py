"""Criteria against torch's quantiles, a search by casts, and a plain loop."""

from __future__ import annotations

import math

import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st

import dovetail as dv
from dovetail.formats.observers import Histogram, observer, range_by
from helpers import randn

FORMATS = ["int8", "int4", "int2", "uint8", "uint4", "int8(affine)", "int4(affine)", "int4(full)"]
FORMATS += ["int5(po2)", "int3(rounding=TowardZero)"]


def heavy(*shape, seed=0):
    """Values with rare, large ones, more of them above zero."""
    x = randn(*shape, seed=seed)
    return x.sign() * x.abs() ** 3 + 0.5


def cast_error(x, fmt, low, high):
    from dovetail.formats.quantization import scale_zero_point

    fmt = dv.format(fmt)
    scale, zero = scale_zero_point(fmt, low, high)
    codes = ((x.double() / scale).round() + zero).clamp(fmt.qmin, fmt.qmax)
    return float((((codes - zero) * scale - x) ** 2).sum())


@settings(max_examples=60)
@given(st.lists(st.floats(-1e6, 1e6, width=32), min_size=1, max_size=60), st.floats(1, 100))
def test_the_percentile_of_values_is_one_of_them(values, percent):
    low, high = range_by(f"percentile({percent})", dv.format("int8"), torch.tensor([values]))
    sizes = sorted(map(abs, values))
    wanted = sizes[max(0, math.ceil(percent / 100 * len(sizes)) - 1)]
    assert (float(low), float(high)) == (max(min(values), -wanted), min(max(values), wanted))


@pytest.mark.parametrize("percent", [50.0, 90.0, 99.0, 99.9, 100.0])
def test_the_percentile_of_a_histogram_is_within_a_bin(percent):
    x = heavy(1, 20000, seed=1)
    seen = observer(f"percentile({percent})")
    for part in x.chunk(7, 1):
        seen.update(part)
    width = float(seen.histogram.width)
    wanted = float(x.abs().quantile(percent / 100, interpolation="higher"))
    low, high = (float(end) for end in seen.range(dv.format("int8")))
    assert wanted - 1e-6 <= max(-low, high) <= wanted + width * 1.001


@pytest.mark.parametrize("fmt", FORMATS)
def test_mse_is_the_best_fraction_of_the_extremes(fmt):
    x = heavy(1, 3000, seed=2)
    low, high = range_by("mse", dv.format(fmt), x)
    errors = {k: cast_error(x, fmt, x.min() * k / 64, x.max() * k / 64) for k in range(2, 65)}
    best = max(k for k, error in errors.items() if error <= min(errors.values()) * (1 + 1e-9))
    assert float(high) == pytest.approx(float(x.max()) * best / 64)
    assert float(low) == pytest.approx(float(x.min()) * best / 64)


@pytest.mark.parametrize("fmt", FORMATS)
def test_a_histogram_finds_as_good_a_range_as_the_values(fmt):
    x = heavy(1, 20000, seed=3)
    seen = observer("mse")
    seen.update(x)
    ours = cast_error(x, fmt, *seen.range(dv.format(fmt)))
    best = cast_error(x, fmt, *range_by("mse", dv.format(fmt), x))
    assert best <= ours * (1 + 1e-9)
    assert ours <= best * 1.02


@pytest.mark.parametrize("fmt", FORMATS)
def test_ends_apart_are_never_worse_than_together_nor_these_than_extremes(fmt):
    for seed in range(5):
        x = heavy(1, 500, seed=seed)
        number = dv.format(fmt)
        errors = [
            cast_error(x, fmt, *range_by(spec, number, x)) for spec in ("l2", "mse", "minmax")
        ]
        assert errors == sorted(errors)
    if number.bits == 4:
        x[0, 0] = 100.0  # an end of its own
        differ = range_by("l2", number, x)[0] < range_by("mse", number, x)[0]
        assert bool(differ) == number.affine


@pytest.mark.parametrize("spec", ["percentile(99)", "mse", "l2", "entropy"])
def test_rows_have_ranges_of_their_own(spec):
    x = heavy(4, 300, seed=4) * torch.tensor([[1.0], [1e-3], [50.0], [0.0]])
    together = range_by(spec, dv.format("int4(affine)"), x)
    for row in range(4):
        alone = range_by(spec, dv.format("int4(affine)"), x[row : row + 1])
        assert [end[row] for end in together] == list(alone)


def test_counts_do_not_depend_on_cuts_or_order():
    x = heavy(1, 3000, seed=5) * torch.logspace(-3, 3, 3000)
    whole = Histogram(x)
    for parts in (x.chunk(11, 1), x.flip(1).chunk(5, 1), x.split(1000, 1)[::-1]):
        seen = Histogram(parts[0])
        for part in parts[1:]:
            seen.add(part)
        assert torch.equal(seen.counts, whole.counts)
        assert torch.equal(seen.width, whole.width)


@pytest.mark.parametrize("peak", [1e-45, 1e-38, 1.0, 2.0, 3.4e38])
def test_bins_reach_the_peak_and_keep_the_sign(peak):
    seen = Histogram(torch.tensor([[0.0, -0.0, math.nan, math.inf, peak, -peak]]))
    assert int(seen.counts.sum()) == 4
    sample = seen.sample(torch.tensor([-peak]), torch.tensor([peak]))
    far = sample.values[sample.counts > 0]
    assert sorted(far.sign().tolist()) == [-1.0, 0.0, 1.0]
    assert float(far.max()) == pytest.approx(peak, rel=1e-3)


def plain_entropy(x, levels, bins=2048):
    """The cut in bins, by loops over plain lists."""
    width = 2.0 ** (math.frexp(max(map(abs, x)))[1] - 11)
    counts = [0] * bins
    for v in x:
        counts[int(abs(v) / width)] += 1
    counts[0] = counts[1]
    best, least = bins, math.inf
    for cut in range(bins, levels - 1, -8):
        p = counts[:cut]
        p[-1] += sum(counts[cut:])
        sums, filled = [0.0] * levels, [0] * levels
        for i in range(cut):
            sums[i * levels // cut] += counts[i]
            filled[i * levels // cut] += counts[i] > 0
        q = [
            sums[i * levels // cut] / filled[i * levels // cut] if counts[i] else 0.0
            for i in range(cut)
        ]
        all_p, all_q = sum(p), sum(q)
        found = 0.0
        for one, other in zip(p, q, strict=True):
            if one:
                found += (
                    one / all_p * math.log(one / all_p / (other / all_q)) if other else math.inf
                )
        if found < least * (1 - 1e-6):
            best, least = cut, found
    return best * width


@pytest.mark.parametrize(("fmt", "levels"), [("int8", 128), ("int4", 8), ("uint8(symmetric)", 256)])
def test_entropy_is_that_of_the_plain_loop(fmt, levels):
    x = heavy(1, 4000, seed=6).abs()
    low, high = range_by("entropy", dv.format(fmt), x)
    wanted = plain_entropy(x[0].double().tolist(), levels)
    assert float(high) == pytest.approx(min(wanted, float(x.max())))
    assert float(low) == float(x.min())


def test_entropy_of_as_many_codes_as_bins_keeps_the_extremes():
    x = heavy(1, 500)
    assert range_by("entropy", dv.format("int16"), x) == range_by("minmax", dv.format("int16"), x)
