"""Models state how far off they are, and are refused where a multiplier is expected."""

from __future__ import annotations

import numpy as np
import pytest

import dovetail as dv
import dovetail.multipliers as dm
from dovetail.errors import DovetailError


def distance(m, made):
    a = np.arange(256)
    values = np.where(a > 127, a - 256, a) if m.signed else a
    return np.abs(made(values[:, None], values[None]) - m.table().numpy())


@pytest.mark.parametrize("spelling", ["mul8s_1KV9", "mitchell", "mul8u_1JJQ"])
@pytest.mark.parametrize(
    ("kind", "given"), [("poly", {}), ("noise", {}), ("low_rank", {"rank": 3})]
)
def test_the_fidelity_is_the_distance_over_all_pairs(spelling, kind, given):
    m = dm.multiplier(spelling)
    made = m.model(kind, **given)
    found = distance(m, made)
    assert made.fidelity.max == pytest.approx(found.max(), abs=1e-6)
    assert made.fidelity.mean == pytest.approx(found.mean(), abs=1e-6)
    assert made.fidelity.rms == pytest.approx(np.sqrt((found**2).mean()), abs=1e-6)


def test_a_polynomial_finds_its_power():
    def cut(a, w):
        return (a & ~7) * (w & ~7)

    made = dm.multiplier(cut, bits=8).model("poly")
    assert made.e == 3
    assert made.fidelity.max < 1e-6
    # (a - a mod 8)(w - w mod 8): the four products of the features, with signs.
    wanted = np.zeros((5, 5))
    wanted[1, 2], wanted[1, 4], wanted[2, 3], wanted[3, 4] = 1, -1, -1, 1
    assert np.allclose(made.coefficients, wanted, atol=1e-8)
    assert dm.multiplier(cut, bits=8).model("poly", e=2).fidelity.max > 100


def test_a_searched_power_is_as_good_as_any_given():
    m = dm.multiplier("mul8s_1KV9")
    best = m.model("poly").fidelity.rms
    assert all(m.model("poly", e=e).fidelity.rms >= best - 1e-6 for e in range(1, 8))


def test_noise_has_the_errors_moments_under_the_given_operands():
    m = dm.multiplier("mul8s_1KVM")
    errors = m.errors()
    made = m.model("noise")
    assert (made.mean, made.deviation**2) == (errors.bias, pytest.approx(errors.variance))
    odd = np.arange(256) % 2
    five = np.arange(256) == 5
    assert m.model("noise", first_pdf=odd, second_pdf=five).mean == -5
    drawn = made.sample(np.full(20000, 7), 9, seed=3)
    assert drawn.std() == pytest.approx(made.deviation, rel=0.03)
    assert drawn.mean() == pytest.approx(63 + made.mean, abs=4 * made.deviation / 141)
    assert np.array_equal(drawn, made.sample(np.full(20000, 7), 9, seed=3))


def test_low_rank_reaches_the_table_and_is_best_in_the_mean_square():
    m = dm.multiplier("mul8s_1KV9")
    fidelity = [m.model("low_rank", rank=r).fidelity.rms for r in range(5)]
    assert fidelity == sorted(fidelity, reverse=True)
    assert fidelity[4] < 1e-6 < fidelity[3]
    sizes = np.linalg.svd(m.table().numpy().astype(float), compute_uv=False)
    assert fidelity[2] == pytest.approx(np.sqrt((sizes[2:] ** 2).sum()) / 256)


def test_models_are_no_multipliers():
    made = dm.multiplier("mitchell").model("low_rank", rank=2)
    for use in (dm.multiplier, lambda m: dv.rule("*", input="int8", weight="int8", mul=m)):
        with pytest.raises(DovetailError, match="approximates a multiplier and is none"):
            use(made)
    assert "rank=2" in repr(made)
    assert "mitchell(bits=8, signed=True)" in repr(made)


def test_wrong_use_teaches():
    m = dm.multiplier("mitchell")
    for kind, given, message in [
        ("spline", {}, "unknown model of a multiplier 'spline'"),
        ("poly", {"e": 9}, "e=9; give a whole number from 1 to 7"),
        ("low_rank", {}, "missing a required argument: 'rank'"),
        ("low_rank", {"rank": 999}, "rank=999; give a whole number from 0 to 256"),
    ]:
        with pytest.raises(DovetailError, match=message):
            m.model(kind, **given)
    with pytest.raises(DovetailError, match="fitted over all operand pairs"):
        dm.multiplier("mitchell(bits=12)").model("noise")
    with pytest.raises(DovetailError, match=r"outside -128\.\.127"):
        m.model("noise")(200, 1)
