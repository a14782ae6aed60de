"""A product and bytes by class: exact in either role, with as few lookups as the structure says."""

from __future__ import annotations

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

import dovetail.multipliers as dm
from dovetail.multipliers.classes import class_form
from dovetail.multipliers.operands import operand_values


def check(m, lookups, skip_lowest=False):
    form = class_form(m, lookups, skip_lowest)
    assert form is not None
    sides = [side for side in form.sides if side is not None]
    assert max(side.count for side in sides) <= lookups
    product = np.outer(form.first, form.second)
    for side in sides:
        found = side.table() if side is form.by_second else side.table().T
        assert 0 <= side.entry.min() <= side.entry.max() <= 255
        assert 0 <= side.classes.min() <= side.classes.max() <= 15
        assert 1 <= side.step.min() <= side.step.max() <= 127
        table, whole = m.table().numpy(), product + found + side.constant
        if skip_lowest:
            table, whole = (np.delete(np.delete(t, 128, 0), 128, 1) for t in (table, whole))
        assert np.array_equal(whole, table)
    return [0 if side is None else side.count for side in form.sides]


@pytest.mark.parametrize("circuit", [c.spelling for c in dm.catalog(bits=8)])
def test_every_signed_circuit_needs_one_lookup_or_none(circuit):
    m = dm.multiplier(circuit)
    if m.signed and m.factors().rank > 1:
        assert check(m, 2) == [1, 1]
        assert check(m, 2, skip_lowest=True) == [1, 1]


@pytest.mark.parametrize(
    ("spelling", "lookups"),
    [
        ("kulkarni(signed=False)", 2),
        ("broken_array(drop_columns=5)", 3),
        ("mul8u_1JJQ", 1),
        ("etm(bits=4)", 1),
    ],
)
def test_known_counts(spelling, lookups):
    assert all(check(dm.multiplier(spelling), lookups))


@pytest.mark.parametrize("by_rows", [False, True])
def test_classes_of_one_operand_only(by_rows):
    rng = np.random.default_rng(0)
    values = operand_values(8, True)
    error = rng.integers(0, 256, (256, 16))[:, rng.integers(0, 16, 256)]
    table = np.outer(values, values) + (error.T if by_rows else error)
    assert check(dm.multiplier(table, signed=True), 3) == ([0, 1] if by_rows else [1, 0])


@settings(max_examples=15)
@given(st.integers(0, 2**32), st.integers(1, 31), st.booleans(), st.integers(0, 3))
def test_tables_made_of_classes(seed, count, wide, dropped):
    """Few classes of both operands: an error of its own for each pair of classes."""
    rng = np.random.default_rng(seed)
    values = operand_values(8, True)
    error = rng.integers(0, 30_000 if wide else 256, (count, count))
    first, second = rng.integers(0, count, (2, 256))
    constant = rng.integers(-9999, 9999, 256) // 9999 * (1 if wide else 0)
    table = np.outer(values & -(1 << dropped), values) + error[first][:, second] + constant
    check(dm.multiplier(table, signed=True), (1 if count <= 16 else 3) * (2 if wide else 1))


def test_what_has_no_classes_is_none():
    table = np.random.default_rng(0).integers(-(2**15), 2**15, (256, 256))
    assert class_form(dm.multiplier(table, signed=True), 4) is None
    assert class_form(dm.multiplier("mul8s_1KX2@v1.1"), 0) is None
    assert class_form(dm.multiplier("exact(bits=12)"), 4) is None
    wide = np.where(np.arange(256) < 9, 40_000, 0) * np.ones((256, 1), dtype=int)
    wide[:128] = 0
    assert class_form(dm.multiplier(wide, signed=True), 4) is None


def test_a_constant_per_weight_is_free():
    constant = np.random.default_rng(1).integers(-(2**20), 2**20, 256)
    values = operand_values(8, True)
    check(dm.multiplier(np.outer(values, values) + constant, signed=True), 1)
