"""Masked arrays of partial products, against a plain bit loop."""

from __future__ import annotations

import numpy as np
from hypothesis import given, settings
from hypothesis import strategies as st

import dovetail.multipliers as dm


@st.composite
def arrays(draw):
    bits = draw(st.tuples(st.integers(1, 5), st.integers(1, 5)))
    mask = draw(st.integers(0, 2 ** (bits[0] * bits[1]) - 1))
    return mask, bits, draw(st.booleans())


def bit_loop(mask, bits, signed):
    table = np.zeros((2 ** bits[0], 2 ** bits[1]), dtype=np.int64)
    a = np.arange(2 ** bits[0])[:, None]
    w = np.arange(2 ** bits[1])[None]
    for i in range(bits[0]):
        for j in range(bits[1]):
            if mask >> (i * bits[1] + j) & 1:
                negative = signed and (i == bits[0] - 1) != (j == bits[1] - 1)
                table += (-1 if negative else 1) * ((a >> i & 1) * (w >> j & 1) << (i + j))
    return table


@settings(max_examples=150)
@given(arrays())
def test_any_mask(array):
    mask, bits, signed = array
    m = dm.multiplier("array", mask=mask, bits=bits, signed=signed)
    table = bit_loop(mask, bits, signed)
    assert np.array_equal(m.table().numpy(), table)
    factors = m.factors()
    assert np.array_equal(factors.product(), table)
    rank = int(np.linalg.matrix_rank(table.astype(float))) if table.any() else 0
    assert factors.rank == rank
    assert m.max_abs == np.abs(table).max()
    assert dm.multiplier(repr(m)) == m
    exact, known = m.errors(), m._exact_errors()
    assert known["wce"] == exact.wce
    assert abs(known["bias"] - exact.bias) < 1e-9
    assert abs(known.get("mae", exact.mae) - exact.mae) < 1e-9


def test_the_spelling_shows_the_mask_in_hexadecimal():
    m = dm.multiplier("array(mask=0xfffffffffffefcf8, bits=8, signed=True)")
    assert repr(m) == "array(mask=0xfffffffffffefcf8, bits=8, signed=True)"
    assert m.name == "array"


def test_an_array_of_nothing_has_rank_0_and_is_zero():
    m = dm.multiplier("array(mask=0)")
    assert m.factors().rank == 0
    assert m.factors().first.shape == (0, 256)
    assert not m.table().any()
    assert m.max_abs == 0


def test_fewer_terms_than_distinct_rows_or_columns():
    # Rows a, b, a+b over disjoint columns: three distinct rows, rank 2.
    m = dm.multiplier("array", mask=0b1111_0011_1100_0000, bits=4)
    assert m.factors().rank == 2
    assert np.array_equal(m.factors().product(), m.table().numpy())
