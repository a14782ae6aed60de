"""Gradient tables by hand, and what holds of all of them."""

from __future__ import annotations

import numpy as np
import pytest

import dovetail as dv
from dovetail.gradients import Gradient, gradient
from dovetail.gradients.slopes import largest_window, line_slope, smoothed_slope
from dovetail.gradients.terms import slopes
from dovetail.gradients.windows import best_window, mean_secant
from helpers import CIRCUITS

WHOLE = (-128, 127)


def tables(text, mul, first=WHOLE, second=WHOLE):
    by_first, by_second = slopes(Gradient(text, window=None), dv.multiplier(mul), first, second)
    return by_first[0] @ by_first[1], by_second[0] @ by_second[1]


def smoothed_by_hand(f, window):
    """The definition, code by code."""
    last = len(f) - 1

    def smooth(x):
        near = range(max(x - window, 0), min(x + window, last) + 1)
        return sum(f[i] for i in near) / len(near), sum(near) / len(near)

    out = []
    for x in range(len(f)):
        (down, at), (up, to) = smooth(max(x - 1, 0)), smooth(min(x + 1, last))
        out.append((up - down) / (to - at))
    return out


def test_a_staircase_by_hand():
    """Over 0..5, half-window 1: the means 0, 2/3, 4/3, 8/3, 10/3, 4 at 1/2, 1, 2, 3, 4, 9/2."""
    f = np.array([0.0, 0, 2, 2, 4, 4])
    wanted = [4 / 3, 8 / 9, 1, 1, 8 / 9, 4 / 3]
    np.testing.assert_allclose(smoothed_slope(f, 1), wanted)
    # (-5/2 - 3/2) 0 + (-1/2 + 1/2) 2 + (3/2 + 5/2) 4 over 25/4 + 9/4 + 1/4, twice
    np.testing.assert_allclose(line_slope(f), 16 / 17.5)


@pytest.mark.parametrize("count", [2, 3, 5, 16, 31])
def test_smoothing_is_its_definition(count):
    rng = np.random.default_rng(count)
    f = rng.integers(-50, 50, count).astype(float)
    for window in range(largest_window(count) + 1):
        np.testing.assert_allclose(smoothed_slope(f, window), smoothed_by_hand(f, window))


@pytest.mark.parametrize("count", [2, 3, 4, 7, 8, 255, 256])
def test_the_largest_window_is_the_last_with_different_neighbours(count):
    line = np.arange(count, dtype=float)
    np.testing.assert_allclose(smoothed_slope(line, largest_window(count)), 1.0)
    with np.errstate(invalid="ignore"):
        assert np.isnan(smoothed_slope(line, largest_window(count) + 1)).any()


@pytest.mark.parametrize("text", ["lut1d", "lut2d", "poly"])
@pytest.mark.parametrize("signed", [True, False])
def test_the_exact_product_has_the_other_operand_as_slope(text, signed):
    codes = np.arange(-128, 128) if signed else np.arange(256)
    ends = int(codes[0]), int(codes[-1])
    by_first, by_second = tables(text, f"exact(bits=8, signed={signed})", ends, ends)
    np.testing.assert_allclose(by_first, np.broadcast_to(codes[None], (256, 256)), atol=1e-6)
    np.testing.assert_allclose(by_second, np.broadcast_to(codes[:, None], (256, 256)), atol=1e-6)


def test_lut1d_of_a_truncated_operand_by_hand():
    """``(a & ~63) w`` over -2..1 and 3..5 is -64 w, -64 w, 0, 0: the slope 128 w / 5."""
    (left, right), (ours, theirs) = slopes(
        Gradient("lut1d"), dv.multiplier("mul8s_1L12"), (-2, 1), (3, 5)
    )
    np.testing.assert_allclose(left @ right, np.tile([[76.8, 102.4, 128.0]], (4, 1)))
    np.testing.assert_allclose(ours @ theirs, np.tile([[-64.0], [-64.0], [0.0], [0.0]], 3))


def test_lut1d_depends_on_one_operand():
    by_first, by_second = tables("lut1d", "drum(k=3)")
    assert (by_first == by_first[:1]).all()
    assert (by_second == by_second[:, :1]).all()
    f = dv.multiplier("drum(k=3)")(np.arange(-128, 128), 77)
    np.testing.assert_allclose(
        by_first[0, 128 + 77], np.polyfit(np.arange(-128.0, 128), f.astype(float), 1)[0]
    )


@pytest.mark.parametrize("mul", [*CIRCUITS[:3], "drum(k=4)", "mitchell"])
def test_slopes_are_those_of_the_table(mul):
    """Taken by factors where there are any: here by the definition, along either axis."""
    made = dv.multiplier(mul)
    codes = np.arange(-128, 128) if made.signed else np.arange(256)
    f, ends = made(codes[:, None], codes[None]).astype(float), (int(codes[0]), int(codes[-1]))
    for text, along in (("lut1d", line_slope), ("lut2d(window=5)", lambda x: smoothed_slope(x, 5))):
        by_first, by_second = slopes(gradient(text), made, ends, ends)
        np.testing.assert_allclose(by_first[0] @ by_first[1], along(f), atol=1e-6)
        np.testing.assert_allclose(by_second[0] @ by_second[1], along(f.T).T, atol=1e-6)


@pytest.mark.parametrize("mul", ["mul8s_1KX5", "drum(k=4)"])
def test_a_polynomials_slope_is_its_difference_where_no_remainder_changes(mul):
    """Two steps of a whole period: what the model gives there is a parabola through them."""
    made = dv.multiplier(mul)
    model = made.model("poly")
    period = 1 << model.e
    (left, right), (ours, theirs) = slopes(Gradient("poly"), made, WHOLE, WHOLE)
    codes = np.arange(-128 + period, 128 - period)
    middle = slice(period, 256 - period)
    wanted = model(codes[:, None] + period, codes) - model(codes[:, None] - period, codes)
    np.testing.assert_allclose(
        (left @ right)[middle, middle], wanted / (2 * period), rtol=1e-6, atol=1e-6
    )
    wanted = model(codes[:, None], codes + period) - model(codes[:, None], codes - period)
    np.testing.assert_allclose(
        (ours @ theirs)[middle, middle], wanted / (2 * period), rtol=1e-6, atol=1e-6
    )


def test_the_mean_secant_is_its_definition():
    rng = np.random.default_rng(0)
    f, x = rng.normal(size=(6, 2)), np.arange(6.0) * 3
    wanted = [
        [np.mean([(f[j, c] - f[i, c]) / (x[j] - x[i]) for j in range(6) if j != i]) for c in (0, 1)]
        for i in range(6)
    ]
    np.testing.assert_allclose(mean_secant(f, x), wanted)


def test_a_line_needs_no_window_and_a_staircase_one():
    codes = np.arange(-128, 128)
    weights = np.arange(-128.0, 128)[None]
    assert best_window(codes[:, None].astype(float), weights) == 0
    assert best_window((codes & ~15)[:, None].astype(float), weights) >= 8
