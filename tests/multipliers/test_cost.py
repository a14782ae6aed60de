"""Hardware figures and where they come from."""

from __future__ import annotations

import numpy as np
import pytest

import dovetail.multipliers as dm
from dovetail.multipliers.circuits.unit_gates import estimated


def test_catalogue_figures():
    cost = dm.multiplier("mul8s_1KV9").cost
    assert (cost.power_mw, cost.area_um2, cost.delay_ns) == (0.410, 685.2, 1.47)
    assert cost.energy_pj == pytest.approx(0.410 * 1.47)
    assert cost.source == "EvoApproxLib v2022, mul8s_1KV9, PDK45"


def test_exact_takes_the_exact_circuit_of_its_width():
    assert dm.multiplier("exact").cost == dm.multiplier("mul8s_1KV6").cost
    assert dm.multiplier("exact(bits=12, signed=False)").cost == dm.multiplier("mul12u_332").cost


def test_what_was_not_measured_is_estimated_by_its_unit_gates():
    m = dm.multiplier("array(mask=0xffffffffffff0000, bits=8, signed=False)")  # 6 x 8
    # ands, full adders of seven gates, half adders of three
    gates, full = 48 + 34 * 7 + 6 * 3, 64 + 48 * 7 + 8 * 3
    whole = dm.multiplier("mul8u_1JJQ").cost
    assert m.cost.source == (
        f"estimated: {gates} unit gates, {full} in mul8u_1JJQ@v2022, EvoApproxLib, PDK45"
    )
    assert m.cost.area_um2 == pytest.approx(whole.area_um2 * gates / full)
    assert m.cost.power_mw == pytest.approx(whole.power_mw * gates / full)
    assert dm.multiplier("exact(bits=5, signed=False)").cost.source.startswith("estimated: 145 ")


def test_estimates_against_what_was_measured():
    ratios = []
    for facts in dm.catalog():
        if facts.mask and facts.mask.bit_count() > 4:  # of fewer, the figures are one digit
            found, own = estimated(dm.multiplier(facts.spelling).circuit), facts.cost
            ratios.append([found.area_um2 / own.area_um2, found.energy_pj / own.energy_pj])
    off = np.exp(np.abs(np.log(ratios)).mean(axis=0))  # the typical factor
    assert len(ratios) > 80
    assert off[0] < 1.10
    assert off[1] < 1.16


def test_relative_energy():
    assert dm.relative_energy(dm.multiplier("exact(bits=5)")) == 1.0
    assert dm.relative_energy(dm.multiplier("exact")) == 1.0
    cheap = dm.relative_energy(dm.multiplier("mul8s_1L2N"))
    assert cheap == pytest.approx(0.126 * 0.94 / (0.425 * 1.48))
    assert dm.relative_energy(dm.multiplier("mitchell")) is None
    assert dm.relative_energy(dm.multiplier(lambda a, w: a * w)) is None
