"""Terms against the tables that they stand for."""

from __future__ import annotations

import numpy as np
import pytest

import dovetail as dv
from dovetail.gradients import gradient, terms_of
from dovetail.gradients.slopes import line_slope, smoothed_slope
from dovetail.gradients.terms import MOST, TOLERANCE, slopes
from helpers import random_table

NARROW = (-127, 127)
SIGNED = [m.spelling for m in dv.catalog(bits=8) if m.signed and m.spelling.endswith("@v2022")]


def dense(pair):
    return pair[0] @ pair[1]


@pytest.mark.parametrize("text", ["lut1d", "lut2d(window=3)"])
@pytest.mark.parametrize("mul", SIGNED)
def test_without_tolerance_terms_are_the_table_and_no_more_than_the_rank(text, mul):
    mul = dv.multiplier(mul)
    grad = gradient(text)
    terms = terms_of(grad, mul, NARROW, NARROW, tolerance=0.0)
    by_first, by_second = slopes(grad, mul, NARROW, NARROW)
    np.testing.assert_allclose(terms.p.T @ terms.q, dense(by_first), atol=1e-8)
    np.testing.assert_allclose(terms.u.T @ terms.v, dense(by_second), atol=1e-8)
    assert terms.count <= mul.factors().rank


@pytest.mark.parametrize("mul", [*SIGNED, "mitchell", "broken_array(bits=8, drop_columns=7)"])
def test_the_residual_is_what_is_missing_and_within_the_tolerance(mul):
    mul, grad = dv.multiplier(mul), gradient("lut2d(window=4)")
    terms = terms_of(grad, mul, NARROW, NARROW)
    pairs = slopes(grad, mul, NARROW, NARROW)
    for rows, pair, residual in zip(
        (terms.p.T @ terms.q, terms.u.T @ terms.v), pairs, terms.residual, strict=True
    ):
        missing = np.linalg.norm(rows - dense(pair)) / np.linalg.norm(dense(pair))
        assert residual <= TOLERANCE
        assert missing == pytest.approx(residual, abs=1e-9)


def test_the_signed_circuits_need_two_terms_at_most():
    found = [terms_of(gradient("lut2d"), dv.multiplier(m), NARROW, NARROW) for m in SIGNED]
    assert max(terms.count for terms in found) <= 2


def test_a_table_without_structure_keeps_its_largest_terms():
    terms = terms_of(gradient("lut2d(window=4)"), random_table(7, -3000, 3000), NARROW, NARROW)
    assert terms.count == MOST
    assert 0.5 < max(terms.residual) < 1


def test_operands_of_other_ranges_have_tables_of_their_own():
    terms = terms_of(gradient("lut2d"), dv.multiplier("mul8s_1KVA"), (-7, 7), (-128, 127))
    assert (terms.p.shape[1], terms.q.shape[1]) == (15, 256)


def test_straight_through_and_the_exact_multiplier_have_none():
    exact, circuit = dv.multiplier("exact"), dv.multiplier("mul8s_1KVA")
    assert terms_of(gradient("lut2d"), exact, NARROW, NARROW) is None
    assert terms_of(gradient("ste"), circuit, NARROW, NARROW) is None


def test_a_multiplier_that_is_always_zero_has_no_slope():
    zero = dv.multiplier(np.zeros((256, 256), dtype=np.int32), signed=True)
    terms = terms_of(gradient("lut2d"), zero, NARROW, NARROW)
    assert not terms.p.any()
    assert terms.residual == (0.0, 0.0)


@pytest.mark.parametrize("text", ["lut1d", "lut2d(window=100)"])
def test_wide_operands_by_their_factors(text):
    """A 12-bit circuit of rank 5 by its factors, against the definition on columns."""
    mul, grad, ends = dv.multiplier("mul12s_2PT"), gradient(text), (-2047, 2047)
    terms = terms_of(grad, mul, ends, ends, tolerance=0.0)
    codes, picked = np.arange(-2047, 2048), np.array([-2000, -3, 0, 5, 1999])
    rows = mul(codes[:, None], picked[None]).astype(float)
    wanted = line_slope(rows) if grad.window is None else smoothed_slope(rows, grad.window)
    got = (terms.p.T @ terms.q)[:, picked + 2047]
    np.testing.assert_allclose(got, wanted, atol=1e-9 * np.abs(wanted).max())


def test_a_window_is_found_for_wide_operands():
    terms = terms_of(gradient("lut2d"), dv.multiplier("mul16s_GRU"), (-32767, 32767), (-127, 127))
    assert terms.count == 1
