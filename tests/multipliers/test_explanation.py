"""What is said of a multiplier's structure, on tables whose structure is known."""

from __future__ import annotations

import numpy as np
import pytest

import dovetail.multipliers as dm
from dovetail.kernels.planner import plan_mac
from dovetail.kernels.realisation import Operands
from dovetail.multipliers.operands import operand_values
from dovetail.multipliers.structure import structure_of


def test_a_table_made_to_order():
    rng = np.random.default_rng(0)
    values = operand_values(8, True)
    error = rng.integers(-100, 100, (256, 5))[:, rng.integers(0, 5, 256)]
    error += rng.integers(-9000, 9000, 256)[:, None]
    table = structure_of(dm.multiplier(np.outer(values, values) + error)).table
    assert (table.error_columns, table.error_rows) == (5, 256)
    assert table.error == (error.min(), error.max())
    assert table.residue[1] - table.residue[0] < 800
    assert not table.commutative
    assert (table.zero_rows, table.zero_columns) == (0, 0)
    assert table.at_zero == error[0, 0]


@pytest.mark.parametrize(
    ("spelling", "unread", "factors", "int8"),
    [
        ("truncate(drop_first=3, drop_second=1)", (3, 1), (1, 8), (1, 1)),
        ("drum(k=4)", (0, 0), (1, 9), (4, 1)),
        ("mul8s_1KV9", (0, 0), (4, 8), (4, 4)),
        ("exact(bits=8, signed=False)", (0, 0), (1, 9), (1, 1)),
        ("mitchell", (0, 0), None, (None, None)),
    ],
)
def test_known_structure(spelling, unread, factors, int8):
    found = structure_of(dm.multiplier(spelling))
    assert (found.unread, found.factors, found.int8) == (unread, factors, int8)


@pytest.mark.parametrize("circuit", [c.spelling for c in dm.catalog(bits=8)])
def test_the_rank_of_every_circuit_is_the_catalogues(circuit):
    found = structure_of(dm.multiplier(circuit))
    assert found.table.rank == next(c.rank for c in dm.catalog(8) if c.spelling == circuit)
    assert found.mask == dm.multiplier(circuit).mask


def test_commutativity_and_zeros():
    assert structure_of(dm.multiplier("mitchell")).table.commutative
    assert not structure_of(dm.multiplier("mul8s_1KVM")).table.commutative
    assert not structure_of(dm.multiplier("exact(bits=(4, 3))")).table.commutative
    zero = structure_of(dm.multiplier(np.zeros((4, 8), int))).table
    assert (zero.rank, zero.zero_rows, zero.zero_columns) == (0, 4, 8)


def test_wide_operands_say_what_holds_by_construction():
    found = structure_of(dm.multiplier("truncate(bits=16, drop_first=5)"))
    assert found.table is None
    assert (found.factors, found.unread) == ((1, 16), (5, 0))
    assert found.mask == dm.multiplier("truncate(bits=16, drop_first=5)").mask
    assert "above 16 bits" in str(dm.multiplier("mitchell(bits=12)").explain())


@pytest.mark.parametrize("spelling", ["mul8s_1KV9", "mul8u_1JJQ", "mitchell", "roba(bits=12)"])
def test_the_plan_is_the_planners(spelling):
    m = dm.multiplier(spelling)
    top = 2 ** (m.bits[0] - 1) - 1
    ends = (-top, top) if m.signed else (0, 2 ** m.bits[0] - 1)
    said = m.explain()
    assert said.plans[0][0] == plan_mac(m, Operands(ends, ends)).name
    assert [cost for _, cost in said.plans] == sorted(cost for _, cost in said.plans)


def test_the_text():
    text = str(dm.multiplier("mul8s_1KVM").explain())
    assert text.splitlines()[0] == "mul8s_1KVM@v2022"
    for part in ("rank 1", "unread bits", "1 and 0", "mask 0xff", "-127 to +128", "predicted"):
        assert part in text
    assert repr(dm.multiplier("mul8s_1KVM").explain()) == text
