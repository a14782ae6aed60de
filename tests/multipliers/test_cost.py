"""Hardware figures and where they come from."""

from __future__ import annotations

import pytest

import dovetail.multipliers as dm


def test_catalogue_figures():
    cost = dm.multiplier("mul8s_1KV9").cost
    assert (cost.power_mw, cost.area_um2, cost.delay_ns) == (0.410, 685.2, 1.47)
    assert cost.energy_pj == pytest.approx(0.410 * 1.47)
    assert cost.source == "EvoApproxLib v2022, mul8s_1KV9, PDK45"


def test_exact_takes_the_exact_circuit_of_its_width():
    assert dm.multiplier("exact").cost == dm.multiplier("mul8s_1KV6").cost
    assert dm.multiplier("exact(bits=12, signed=False)").cost == dm.multiplier("mul12u_332").cost
    assert dm.multiplier("exact(bits=5)").cost is None


def test_arrays_are_estimated_by_their_share_of_partial_products():
    m = dm.multiplier("broken_array(drop_columns=3)")
    whole = dm.multiplier("mul8s_1KV6").cost
    assert m.cost.source == "estimated: 58 of 64 partial products of mul8s_1KV6@v2022"
    assert m.cost.area_um2 == pytest.approx(whole.area_um2 * 58 / 64)
    assert dm.relative_energy(m) == pytest.approx(58 / 64)


def test_relative_energy():
    assert dm.relative_energy(dm.multiplier("exact(bits=5)")) == 1.0
    assert dm.relative_energy(dm.multiplier("exact")) == 1.0
    cheap = dm.relative_energy(dm.multiplier("mul8s_1L2N"))
    assert cheap == pytest.approx(0.126 * 0.94 / (0.425 * 1.48))
    assert dm.relative_energy(dm.multiplier("mitchell")) is None
    assert dm.relative_energy(dm.multiplier(lambda a, w: a * w)) is None
