"""Arrays of partial products as gates: equal to the arithmetic, and as large as by hand."""

from __future__ import annotations

import numpy as np
import pytest

import dovetail as dv
from dovetail.multipliers.circuits.array import array_circuit, weighted_circuit
from dovetail.multipliers.circuits.unit_gates import UnitGates, unit_gates
from dovetail.multipliers.operands import operand_values

WIDTHS = [(8, 8), (4, 4), (3, 5), (5, 3), (2, 2), (1, 1), (1, 4)]


def random_mask(rng, bits):
    kept = rng.integers(0, 2, bits[0] * bits[1])
    return sum(int(bit) << place for place, bit in enumerate(kept))


def products(m, bits):
    first, second = (operand_values(width, m.signed) for width in bits)
    return m(first[:, None], second[None])


@pytest.mark.parametrize("signed", [False, True])
@pytest.mark.parametrize("bits", WIDTHS)
def test_the_gates_compute_the_array(bits, signed):
    rng = np.random.default_rng(1)
    masks = [0, (1 << bits[0] * bits[1]) - 1, *(random_mask(rng, bits) for _ in range(6))]
    for mask in masks:
        m = dv.multiplier("array", mask=mask, bits=bits, signed=signed)
        assert (products(m.circuit, bits) == products(m, bits)).all(), m


@pytest.mark.parametrize("signed", [False, True])
def test_constants_are_added_up_to_the_width_of_a_product(signed):
    rng = np.random.default_rng(2)
    for constant in (1, 37, 96, 1 << 9, *((-37, -512) if signed else ())):
        mask = random_mask(rng, (8, 8)) & ~0xFFFF
        m = dv.multiplier("array", mask=mask, signed=signed, constant=constant)
        plain = dv.multiplier("array", mask=mask, signed=signed)
        assert (m._products == plain._products + constant).all()
        assert (products(m.circuit, (8, 8)) == m._products).all()
        assert dv.multiplier(repr(m)) == m
        assert m.max_abs == np.abs(m._products).max()
        assert m.factors() is not None
        errors = m.errors()
        known = m._exact_errors()
        assert known["wce"] == errors.wce
        assert known["bias"] == pytest.approx(errors.bias)
        assert known.get("mae", errors.mae) == pytest.approx(errors.mae)


def test_a_constant_beyond_the_product_is_refused():
    with pytest.raises(dv.DovetailError, match="constant=600: products would reach 65625"):
        dv.multiplier("array", mask=(1 << 64) - 1, signed=False, constant=600)
    with pytest.raises(dv.DovetailError, match="whole number"):
        dv.multiplier("array", mask=1, constant=0.5)


def test_double_weights_stand_one_column_higher():
    times = np.array([[0, 2, 1], [1, 0, 2], [2, 1, 1]])
    for signed in (False, True):
        circuit = weighted_circuit(times, (3, 3), signed)
        weights = np.array([1, 2, -4 if signed else 4])
        a = operand_values(3, signed)
        bits = np.arange(8)[:, None] >> np.arange(3) & 1
        expected = (bits * weights) @ times @ (bits * weights).T
        wide = 1 << 6
        assert ((circuit(a[:, None], a[None]) - expected) % wide == 0).all()


def test_truncated_arrays_have_gates():
    for spelling in ("none", "constant", "variable"):
        m = dv.multiplier("truncated", drop_columns=6, compensation=spelling)
        assert (products(m.circuit, (8, 8)) == m._products).all()
        assert 0 < dv.multipliers.relative_energy(m) < 1


def test_sizes_by_hand():
    def full(*bits, signed=False):
        return unit_gates(array_circuit((1 << bits[0] * bits[1]) - 1, bits, signed))

    # n x n: n*n ands, n half adders, n*(n-2) full adders
    for n in (2, 3, 4, 8):
        assert full(n, n).area == n * n + 3 * n + 7 * n * (n - 2)
    assert full(1, 4) == UnitGates(4, 1)  # ands alone
    assert full(2, 2).delay == 4  # and, and of the carry, exclusive-or
    # -2 a1 w1' ... : four products, constant 4 in two columns; checked gate by gate:
    # column 0: p00. column 1: p01', p10' and a half adder: 3. column 2: p11, carry, 1: full adder
    # with a constant, xor, and, or: 4. column 3: that carry and 1, the top: no carry, an inverter.
    assert full(2, 2, signed=True).area == 4 + 3 + 4


def test_nothing_kept_is_free():
    assert unit_gates(array_circuit(0, (8, 8), True)) == UnitGates(0, 0)
    assert dv.multiplier("array(mask=0)").cost.energy_pj == 0
