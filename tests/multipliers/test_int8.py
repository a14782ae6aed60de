"""int8 factors: exact on all pairs, of the rank that the structure promises, within the limit."""

from __future__ import annotations

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

import dovetail.multipliers as dm
from dovetail.multipliers.int8 import error_classes, int8_factors, without_additive
from dovetail.multipliers.operands import operand_values


def check(m, rank, skip_lowest=False):
    factors = int8_factors(m, rank, skip_lowest)
    assert factors is not None
    assert factors.rank <= rank
    assert -128 <= factors.first.min(initial=0) <= factors.first.max(initial=0) <= 127
    low, high = factors.second.min(initial=0), factors.second.max(initial=0)
    assert (low >= -128 and high <= 127) or (low >= 0 and high <= 255)
    table, found = m.table().numpy(), factors.product()
    if skip_lowest:
        middle = [size // 2 for size in table.shape]
        table, found = (np.delete(np.delete(t, middle[0], 0), middle[1], 1) for t in (table, found))
    assert np.array_equal(found, table)


@pytest.mark.parametrize(
    ("spelling", "rank"),
    [
        ("exact(bits=8)", 1),
        ("exact(bits=8, signed=False)", 4),
        ("exact(bits=(8, 4), signed=False)", 2),
        ("exact(bits=(4, 4), signed=False)", 1),
        ("mul8s_1KV9", 4),
        ("mul8s_1L2H@v1.1", 1),
        ("drum(k=6)", 4),
        ("drum(k=6, signed=False)", 4),
        ("truncate(signed=False, drop_first=2)", 4),
        ("mitchell(bits=4)", 4),
    ],
)
def test_known_ranks(spelling, rank):
    check(dm.multiplier(spelling), rank)


@pytest.mark.parametrize("circuit", [c.spelling for c in dm.catalog(bits=8)])
def test_every_circuit_of_eight_bits(circuit):
    m = dm.multiplier(circuit)
    factors = int8_factors(m, 24)
    if factors is None:
        assert m.factors().rank > 5
    else:
        check(m, factors.rank)


def test_without_the_lowest_code_one_term_does():
    check(dm.multiplier("drum(k=6)"), 1, skip_lowest=True)


def signed_product(first=8, second=8):
    return np.outer(operand_values(first, True), operand_values(second, True))


@settings(max_examples=15)
@given(st.integers(0, 2**32), st.integers(2, 6), st.booleans(), st.booleans())
def test_error_classes_with_additive_terms(seed, classes, by_rows, wide):
    rng = np.random.default_rng(seed)
    span = 1000 if wide else 60
    error = rng.integers(-span, span, (256, classes))[:, rng.integers(0, classes, 256)]
    error = error.T if by_rows else error
    error = error + rng.integers(-3000, 3000, 256)[:, None]
    error = error + rng.integers(-30000, 30000, 256)  # a constant per weight is free
    m = dm.multiplier((signed_product() + error).astype(np.int32))
    pieces = 9 if wide else 1  # digits of a range of 4000 about its middle, or one
    check(m, 1 + classes * pieces + 1)


def test_what_has_no_structure_is_none():
    table = np.random.default_rng(0).integers(-(2**15), 2**15, (256, 256))
    assert int8_factors(dm.multiplier(table), 40, False) is None
    assert int8_factors(dm.multiplier("mul8s_1KV9"), 3, False) is None
    assert int8_factors(dm.multiplier("exact(bits=12)"), 40, False) is None


def test_additive_terms_alone():
    rng = np.random.default_rng(1)
    rows, columns = rng.integers(-9000, 9000, (2, 256))
    table = rows[:, None] + columns + 77
    assert not without_additive(table).any()
    check(dm.multiplier(table), 6)


def test_zero_and_constant_tables():
    factors = int8_factors(dm.multiplier(np.zeros((256, 256), int)), 4, False)
    assert factors is not None
    assert factors.rank == 0
    check(dm.multiplier(np.full((256, 256), 16129)), 1)
    check(dm.multiplier(np.full((16, 256), -12345)), 2)


def test_classes_are_the_distinct_columns():
    error = np.array([[3, 1, 3, 1, 1], [0, 0, 0, 0, 0]])
    classes, label = error_classes(error)
    assert classes.tolist() == [[1, 0], [3, 0]]
    assert label.tolist() == [1, 0, 1, 0, 0]
    assert np.array_equal(classes[label].T, error)
