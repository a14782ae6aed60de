"""The catalogue: every mask is the circuit its published figures describe, and names are safe."""

from __future__ import annotations

import math
from pathlib import Path

import numpy as np
import pytest

import dovetail.multipliers as dm
from dovetail.errors import DovetailError
from dovetail.multipliers.facts import all_facts

SHARED = Path(__file__).parents[2].parent / "shared" / "data"
EIGHT = [circuit.spelling for circuit in dm.catalog(bits=8)]
WIDE = [circuit.spelling for circuit in dm.catalog() if circuit.bits != (8, 8)]


def printed(published: float, measured: float) -> bool:
    """Whether ``measured`` is ``published`` up to the library's two to four printed digits."""
    return math.isclose(published, measured, rel_tol=0.042, abs_tol=0.051)


@pytest.mark.parametrize("name", EIGHT)
def test_metrics_of_8_bit_circuits_are_the_published_ones(name):
    facts, found = all_facts()[name], dm.multiplier(name).errors()
    assert found.wce == facts.wce
    assert found.ep == pytest.approx(facts.ep, abs=1e-4)
    assert found.mred == pytest.approx(facts.mre, abs=1e-4)
    assert printed(facts.mae, found.mae)
    assert found.method == "all 65536 operand pairs"


@pytest.mark.parametrize("name", WIDE)
def test_metrics_of_wide_circuits_are_the_published_ones(name):
    """WCE in closed form for all; MAE, EP and MRE on 2**16 operand pairs."""
    facts, m = all_facts()[name], dm.multiplier(name)
    assert m._exact_errors()["wce"] == facts.wce
    rng = np.random.default_rng(0)
    low = -(2 ** facts.bits[0]) // 2 if m.signed else 0
    a, w = rng.integers(low, low + 2 ** facts.bits[0], (2, 1 << 16))
    error = np.abs(m(a, w) - a * w)
    assert (error != 0).mean() == pytest.approx(facts.ep, abs=0.01)
    assert error.mean() == pytest.approx(facts.mae, rel=0.03, abs=0.1)


@pytest.mark.parametrize("name", ["mul12s_2PR@v2022", "mul12u_2BT@v2022", "mul16s_GRU@v2022"])
def test_errors_of_wide_circuits(name):
    facts, found = all_facts()[name], dm.multiplier(name).errors()
    assert found.wce == facts.wce
    assert printed(facts.mae, found.mae)
    sampled = facts.bits == (16, 16)
    assert ("sampled" in found.method, "closed form" in found.method) == (sampled, sampled)


@pytest.mark.parametrize("name", EIGHT + WIDE)
def test_factors_have_the_published_rank_and_stay_as_narrow_as_the_operands(name):
    facts, m = all_facts()[name], dm.multiplier(name)
    factors = m.factors()
    assert factors.rank == facts.rank
    assert factors.fits(facts.bits[0] + (not facts.signed))
    if facts.bits == (8, 8):
        assert (factors.product() == m.table().numpy()).all()


def test_ranks_of_the_signed_8_bit_circuits():
    circuits = dm.catalog(bits=8, signed=True, version="v2022")
    ranks = sorted(dm.multiplier(c.spelling).factors().rank for c in circuits)
    assert ranks == [1, 1, 1, 1, 1, 1, 1, 3, 3, 4, 4, 4, 5]


def test_definition_against_a_bitwise_evaluation():
    """An independent bit loop over the mask, signs by Baugh and Wooley."""
    facts = all_facts()["mul8s_1KVA@v2022"]
    m = dm.multiplier(facts.spelling)
    for a, w in [(-128, -128), (-128, 127), (-1, -1), (7, -3), (85, -86), (3, 127)]:
        total = 0
        for i in range(8):
            for j in range(8):
                if facts.mask >> (8 * i + j) & 1 and a >> i & 1 and w >> j & 1:
                    total += -(1 << i + j) if (i == 7) != (j == 7) else 1 << i + j
        assert m(a, w) == total


def test_negative_times_negative_quadrant_of_1l2h():
    """AdaPT ships mul8s_1L2H with mul(|a|, |b|) where both operands are negative."""
    m = dm.multiplier("mul8s_1L2H@v1.1")
    a = np.arange(-128, 0)[:, None]
    w = np.arange(-128, 0)[None]
    assert np.array_equal(m(a, w), (a & ~1) * (w & ~1))
    magnitude = np.abs(np.arange(-128, 0, dtype=np.int8)).astype(int)  # int8: |-128| is -128
    theirs = m(magnitude[:, None], magnitude[None])
    assert (m(a, w) != theirs).sum() == 12414  # 75.8 % of the quadrant
    assert m.errors().mae == pytest.approx(53.33, abs=0.01)
    assert m.errors().bias == pytest.approx(0.75)
    assert m(-128, -128) == 16384


def test_first_operand_is_the_row():
    m = dm.multiplier("mul8s_1KXF")  # truncates its first operand only
    a, w = np.arange(-128, 128)[:, None], np.arange(-128, 128)[None]
    assert np.array_equal(m(a, w), (a & ~7) * w)
    table = m.table()
    assert table[7, 100] == 0
    assert table[100, 7] == 96 * 7
    assert table[255, 1] == -8
    assert table[1, 255] == 0


def test_one_name_two_circuits():
    old, new = dm.multiplier("mul8s_1KV8@v1.1"), dm.multiplier("mul8s_1KV8")
    assert old.errors().mae == 0
    assert new.errors().mae == 1.25
    assert old != new
    assert (repr(new), new.name) == ("mul8s_1KV8@v2022", "mul8s_1KV8")


def test_every_circuit_reads_back():
    for circuit in dm.catalog():
        m = dm.multiplier(circuit.spelling)
        assert repr(m) == circuit.spelling
        assert dm.multiplier(repr(m)) == m


@pytest.mark.parametrize(
    ("name", "message"),
    [
        ("mul8s_1L2H", "not a circuit of v2022; did you mean 'mul8s_1L2H@v1.1'?"),
        ("mul8s_1KV9@v1.1", "not a circuit of v1.1; did you mean 'mul8s_1KV9@v2022'?"),
        ("mul8u_1446", r"Import its table or its C model, dv.multiplier\('mul8u_1446.npy'"),
        ("mul8s_1KV99", "unknown multiplier 'mul8s_1KV99'; did you mean 'mul8s_1KV9'"),
        ("mul8s_1kv9", "unknown multiplier 'mul8s_1kv9'; did you mean 'mul8s_1KV9'"),
        ("drumm(k=6)", "unknown multiplier 'drumm'; did you mean 'drum'"),
        ("nonsense", "unknown multiplier 'nonsense'.*drum"),
        ("mul8s_1KV9(bits=8)", "is complete and takes no bits"),
    ],
)
def test_wrong_names_teach(name, message):
    with pytest.raises(DovetailError, match=message):
        dm.multiplier(name)


def test_bad_versions_name_the_good_ones():
    with pytest.raises(DovetailError, match="mul8s_1KV9@v2022"):
        dm.multiplier("mul8s_1KV9@v2023")


@pytest.mark.skipif(not SHARED.exists(), reason="the study's data lie beside the repository")
def test_the_shipped_facts_are_the_studied_ones():
    shipped = Path(dm.__file__).parent / "data" / "evoapprox.csv"
    assert shipped.read_bytes() == (SHARED / "evoapprox.csv").read_bytes()


@pytest.mark.skipif(not SHARED.exists(), reason="the study's data lie beside the repository")
def test_sample_tables_have_the_published_errors():
    for name, table in np.load(SHARED / "mul8u_samples.npz").items():
        m, facts = dm.multiplier(table, signed=False), all_facts()[name]
        assert m.errors().wce == facts.wce
        assert printed(facts.mae, m.errors().mae)
        factors = m.factors()
        assert (factors is None) == (facts.rank > 8)
        if factors:
            assert factors.fits(9)
            assert (factors.product() == table.astype(np.int64)).all()
