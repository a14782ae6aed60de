"""Designed arrays: their sizes and errors are those of the circuits, and none known is better."""

from __future__ import annotations

import itertools

import numpy as np
import pytest

import dovetail as dv
from dovetail.multipliers import design
from dovetail.multipliers.circuits.array import array_circuit
from dovetail.multipliers.circuits.unit_gates import unit_gates
from dovetail.multipliers.designs.annealing import _Walk
from dovetail.multipliers.designs.area import array_area
from dovetail.multipliers.designs.criteria import criterion
from dovetail.multipliers.designs.moments import joint_of

WIDTHS = [(8, 8), (4, 4), (3, 5), (2, 2), (1, 3)]


def gates(m):
    return unit_gates(m.circuit).area


def share(m):
    return gates(m) / gates(dv.multiplier("exact", bits=m.bits, signed=m.signed))


def square(m, joint=None):
    errors = m.errors(joint=joint)
    return errors.variance + errors.bias**2


def skewed(bits=(8, 8), seed=0):
    rng = np.random.default_rng(seed)
    sides = [np.exp(-np.arange(1 << n) / (1 << n - 2)) + 0.01 * rng.random(1 << n) for n in bits]
    return np.outer(*sides)


@pytest.mark.parametrize("signed", [False, True])
@pytest.mark.parametrize("bits", WIDTHS)
def test_areas_are_those_of_the_gates(bits, signed):
    rng = np.random.default_rng(3)
    for share_kept, constant in itertools.product((0, 0.2, 0.6, 1), (0, 1, 5)):
        kept = (rng.random(bits) < share_kept).astype(np.int64)
        mask = sum(1 << int(place) for place in np.flatnonzero(kept))
        built = unit_gates(array_circuit(mask, bits, signed, constant)).area
        assert array_area(kept, bits, signed, constant) == built


@pytest.mark.parametrize("compensate", [False, True])
@pytest.mark.parametrize("objective", ["mse", "med"])
@pytest.mark.parametrize("signed", [False, True])
def test_losses_are_the_errors_of_the_multiplier(signed, objective, compensate):
    bits = (4, 3)
    joint = joint_of(skewed(bits), bits)
    aim = criterion(objective, joint, bits, signed, 1, compensate)
    rng = np.random.default_rng(4)
    for _ in range(8):
        dropped = rng.integers(0, 2, 12)
        mask = sum(1 << place for place in range(12) if not dropped[place])
        m = dv.multiplier(
            "array", mask=mask, bits=bits, signed=signed, constant=aim.constant(dropped)
        )
        errors = m.errors(joint=joint)
        expected = errors.mae
        if objective == "mse":
            expected = errors.variance + (0 if compensate else errors.bias**2)
        assert aim.loss(dropped) == pytest.approx(expected, rel=1e-5)
        flips = aim.flips(dropped)
        if objective == "mse" or not compensate:
            for place in range(12):
                moved = dropped.copy()
                moved[place] ^= 1
                assert flips[place] == pytest.approx(aim.loss(moved), rel=1e-5)
            pairs = aim.exchanges(dropped)
            for i, j in np.argwhere(np.triu(np.isfinite(pairs), 1)):
                moved = dropped.copy()
                moved[[i, j]] ^= 1
                assert pairs[i, j] == pytest.approx(aim.loss(moved), rel=1e-5)


def test_depth_weighs_the_mean_error():
    bits, joint = (3, 3), joint_of(None, (3, 3))
    dropped = np.array([1, 1, 0, 1, 0, 0, 0, 0, 0])
    m = dv.multiplier("array", mask=0b111110100, bits=3, signed=False)
    errors = m.errors()
    for depth in (1, 7, 64):
        loss = criterion("mse", joint, bits, False, depth, False).loss(dropped)
        assert loss == pytest.approx(errors.variance + depth * errors.bias**2)
        sums = errors.summed(depth)
        assert loss == pytest.approx(sums.rms**2 / depth)


def test_a_walk_knows_where_it_stands():
    for signed, compensate in itertools.product((False, True), repeat=2):
        joint = joint_of(skewed(), (8, 8))
        aim = criterion("mse", joint, (8, 8), signed, 1, compensate)
        rng = np.random.default_rng(5)
        walk = _Walk(aim, rng.integers(0, 2, 64))
        for _ in range(60):
            i, j = rng.choice(64, 2, replace=False).tolist()
            places = (i,) if walk.state[i] == walk.state[j] else (i, j)
            loss, area = walk.loss_after(places), walk.area_after(places)
            walk.move(places, loss)
            assert loss == pytest.approx(aim.loss(walk.dropped), rel=1e-6, abs=1e-6)
            kept = (1 - walk.dropped).reshape(8, 8)
            constant = round(float(aim.mean @ walk.dropped)) if compensate else 0
            assert area == array_area(kept, (8, 8), signed, constant)


@pytest.mark.parametrize("constant", [False, True])
@pytest.mark.parametrize("signed", [False, True])
def test_small_arrays_are_the_best_of_all(signed, constant):
    bits, joint = (3, 3), joint_of(skewed((3, 3)), (3, 3))
    aim = criterion("mse", joint, bits, signed, 1, constant)
    full = array_area(np.ones(bits, dtype=np.int64), bits, signed)
    subsets = [n >> np.arange(9) & 1 for n in range(1 << 9)]
    for cost in (0.0, 0.3, 0.6, 1.0):
        found = design(cost, bits=bits, signed=signed, operands=joint, constant=constant)
        assert share(found) <= cost
        assert constant or found.constant == 0
        least = min(aim.loss(d) for d in subsets if aim.area(d) <= cost * full)
        mean = found.errors(joint=joint).bias if constant else 0  # the constant is a whole number
        assert square(found, joint) - mean**2 == pytest.approx(least, abs=1e-9)
    assert design(1.0, bits=bits, signed=signed).errors().wce == 0


def test_designs_beat_the_uniform_arrays_of_their_size():
    joint = skewed()
    for spelling in ("broken_array(drop_columns=7)", "truncate(drop_first=3, drop_second=2)"):
        uniform = dv.multiplier(spelling)
        cost = share(uniform)
        own = design(cost, operands=joint, restarts=1)
        assert gates(own) <= gates(uniform)
        assert square(own, joint) < 0.7 * square(uniform, joint)
        mended = design(cost, operands=joint, restarts=1, constant=True)
        assert gates(mended) <= gates(uniform)
        assert square(mended, joint) <= square(own, joint)
        assert abs(mended.errors(joint=joint).bias) <= 0.5
        assert dv.multiplier(repr(mended)) == mended


def test_the_mean_absolute_error():
    joint = np.zeros((256, 256))
    joint[:16, :16] = 1  # few pairs: quick
    squared = design(0.5, operands=joint, restarts=1)
    absolute = design(0.5, operands=joint, objective="med", restarts=1)
    assert absolute.errors(joint=joint).mae <= squared.errors(joint=joint).mae


def test_the_same_arguments_give_the_same_array():
    assert design(0.4, operands=skewed(), restarts=1) == design(0.4, operands=skewed(), restarts=1)


def test_operands_as_two_histograms():
    first, second = np.arange(1, 9), np.arange(8, 0, -1)
    one = design(0.5, bits=3, operands=(first, second))
    assert one == design(0.5, bits=3, operands=np.outer(first, second))


@pytest.mark.parametrize(
    ("arguments", "words"),
    [
        ({"cost": 2}, "cost=2; give a share of the exact array's gates, 0 to 1"),
        ({"bits": 12}, "up to 8 \\+ 8 bits"),
        ({"objective": "mae"}, "unknown objective 'mae'"),
        ({"operands": np.ones((4, 4))}, r"shape \[4, 4\]; expected \[256, 256\]"),
        ({"operands": -np.ones((256, 256))}, "non-negative"),
        ({"depth": 0}, "depth=0"),
        ({"objective": "med", "depth": 9}, "'med' looks at single products"),
        ({"restarts": -1}, "restarts=-1"),
    ],
)
def test_refusals(arguments, words):
    with pytest.raises(dv.DovetailError, match=words):
        design(**arguments)
