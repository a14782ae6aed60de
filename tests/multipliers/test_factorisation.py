"""Exact integer factors, and the lattice algebra under them."""

from __future__ import annotations

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

import dovetail.multipliers as dm
from dovetail.multipliers.factorisation import find_factors, find_mask
from dovetail.multipliers.lattice import factor_integers, reduce_basis, row_lattice


@settings(max_examples=40, deadline=None)
@given(
    st.integers(0, 2**32),
    st.integers(1, 6),
    st.sampled_from([1, 3, 100]),
    st.tuples(st.integers(3, 6), st.integers(3, 6)),
)
def test_low_rank_tables_factor(seed, rank, size, bits):
    rng = np.random.default_rng(seed)
    left = rng.integers(-size, size + 1, (2 ** bits[0], rank))
    right = rng.integers(-50, 51, (rank, 2 ** bits[1]))
    factors = find_factors(left @ right, signed=True)
    assert factors is not None
    assert np.array_equal(factors.product(), left @ right)
    assert factors.rank <= rank + 1  # one more term when the exact product goes in front


def test_random_tables_do_not():
    table = np.random.default_rng(0).integers(-(2**15), 2**15, (256, 256))
    assert find_factors(table, signed=True) is None
    assert dm.multiplier(table).factors() is None


@pytest.mark.parametrize("circuit", [c.spelling for c in dm.catalog(8, True, "v2022")])
def test_an_imported_table_factors_as_well_as_the_circuit(circuit):
    m = dm.multiplier(circuit)
    factors = dm.multiplier(m.table()).factors()
    assert (factors.rank, factors.fits(8)) == (m.factors().rank, True)


@pytest.mark.parametrize("circuit", [c.spelling for c in dm.catalog(8, True, "v2022")])
def test_the_lattice_alone_finds_int8_factors_of_minimal_rank(circuit):
    m = dm.multiplier(circuit)
    table = m.table().numpy().astype(np.int64)
    left, right = factor_integers(table, limit=8)
    factors = dm.Factors(left.T, right).balanced()
    assert (factors.rank, factors.fits(8)) == (m.factors().rank, True)
    assert np.array_equal(factors.product(), table)


def test_masks_are_recognised():
    for name in ("mul8s_1KVA", "mul8u_1JJQ", "broken_array(drop_columns=7, drop_rows=2)"):
        m = dm.multiplier(name)
        assert find_mask(m._product, m.bits, m.signed) == m.mask
    mitchell = dm.multiplier("mitchell")
    assert find_mask(mitchell._product, (8, 8), signed=True) is None


def test_width_counts_bits_and_may_skip_the_lowest_code():
    factors = dm.multiplier("drum(k=6, bits=8)").factors()
    assert factors.first[0, 128] == -132
    assert (factors.width(), factors.fits(8)) == (9, False)
    assert factors.fits(8, skip_lowest=True)
    assert dm.multiplier("exact").factors().width() == 8
    assert dm.multiplier("exact(signed=False)").factors().width() == 9


def test_balancing_moves_common_divisors():
    first, second = np.arange(16)[None] * 64, np.arange(16)[None]
    balanced = dm.Factors(first, second).balanced()
    assert balanced.fits(8)
    assert np.array_equal(balanced.product(), first.T @ second)


@given(
    st.lists(st.lists(st.integers(-9, 9), min_size=3, max_size=3), min_size=3, max_size=6).filter(
        lambda rows: np.linalg.matrix_rank(np.array(rows)) == 3
    )
)
def test_lattice_bases_span_the_same_lattice(rows):
    basis = row_lattice(rows)
    short = reduce_basis(basis)
    det = abs(round(np.linalg.det(np.array(basis, float))))
    assert det == abs(round(np.linalg.det(np.array(short, float))))
    for given_row in rows:  # every generator is an integer combination of the basis
        times = np.linalg.solve(np.array(short, float).T, np.array(given_row, float))
        assert np.allclose(times, np.round(times), atol=1e-6)
    assert sum(x * x for row in short for x in row) <= sum(x * x for row in basis for x in row)
