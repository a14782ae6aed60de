"""Remapped weights: the nearest codes by hand and by brute force; layers never get worse."""

from __future__ import annotations

import copy

import numpy as np
import pytest
import torch
from torch import nn

import dovetail as dv
from dovetail.analysis.operands import OperandCounts
from dovetail.multipliers import multiplier
from dovetail.recovery.remap import nearest_codes
from helpers import build, randn
from recovery.models import blocks, convs, emulated, error, everything, same

BROKEN = "broken_array(bits=8, drop_columns=8)"


def _counts(mul, values):
    often = np.bincount(np.array(values) & 255, minlength=256)
    return OperandCounts(multiplier(mul), 1, often, often, None)


@pytest.mark.parametrize("zero", [0, 3])
@pytest.mark.parametrize("mul", [BROKEN, "mul8s_1L2H@v1.1", "exact(bits=8)"])
def test_the_nearest_codes_by_brute_force(mul, zero):
    inputs, m = [5, 5, 17, -100, 64, -3], multiplier(mul)
    codes = list(range(-9, 12, 3))
    found = nearest_codes(_counts(mul, inputs), torch.tensor(codes), zero).tolist()
    for w, chosen in zip(codes, found, strict=True):

        def cost(other, w=w):
            given = [int(m(a, other)) - zero * other - (a - zero) * w for a in inputs]
            return sum(g * g for g in given)

        assert cost(chosen) == min(cost(other) for other in codes)
        if mul == "exact(bits=8)":
            assert chosen == w


def test_a_layer_by_hand():
    """``(a & ~1) * w`` for inputs of 3 gives 2 w': 9 instead of 6 needs w' = 4 or 5, 12 needs 6."""
    net = nn.Sequential(nn.Linear(3, 1, bias=False))
    with torch.no_grad():
        net[0].weight.copy_(torch.tensor([[3.0, 4.0, 127.0]]))
    rule = dv.rule("*", input="int8", weight="int8", mul="mul8s_1KVM")
    dv.apply_(net, dv.Recipe(rule), torch.full((1, 3), 127.0))
    x = torch.tensor([[3.0, 3.0, 0.0]])
    # Codes of 0 count for every weight alike, and nothing in the comparison of w'.
    done = dv.remap_weights(net, [x])
    assert net[0].weight.tolist() == [[4.0, 6.0, 127.0]]
    assert done["0"].what == "2 of 3 weights moved"
    assert done["0"].before == pytest.approx((21 - 14) ** 2 / 21**2)
    assert done["0"].after == pytest.approx((21 - 20) ** 2 / 21**2)
    assert net(x).detach().item() == 20
    done.undo()
    assert net[0].weight.tolist() == [[3.0, 4.0, 127.0]]


@pytest.mark.parametrize("mul", [BROKEN, "mul8s_1L2H@v1.1", "mul8s_1KVM"])
@pytest.mark.parametrize(
    "fields", [{}, {"weight": "int8(per_tensor)"}, {"input": "int8(affine)"}, {"weight": "int5"}]
)
def test_the_objective_falls_where_anything_moves(mul, fields):
    exact, batches = convs(torch.float32)
    model, _ = emulated((copy.deepcopy(exact), batches), mul=mul, **fields)
    untouched = everything(model)
    done = dv.remap_weights(model, batches)
    for change in done:
        moved = "moved" in change.what
        assert change.after < change.before if moved else change.after == change.before
    done.undo()
    assert same(everything(model), untouched)


LAYERS = [
    (lambda: nn.Linear(12, 4), (5, 12)),
    (lambda: nn.Conv2d(4, 6, 3, padding=1, stride=2, groups=2), (4, 5, 5)),
    (lambda: nn.ConvTranspose2d(4, 6, 3, stride=2, padding=1, groups=2), (4, 4, 4)),
]


@pytest.mark.parametrize(("layer", "shape"), LAYERS)
@pytest.mark.parametrize("input", ["int8", "int8(affine)"])
def test_the_objective_is_what_the_layer_does(layer, shape, input):
    outputs = {}
    for mul in ("exact", BROKEN):
        net, x = nn.Sequential(build(0, layer)), randn(3, *shape).abs()
        emulated((net, [x]), mul=mul, input=input)
        outputs[mul] = net(x).detach().double()
    done = dv.remap_weights(net, [x])
    outputs["after"] = net(x).detach().double()
    wrong = {k: float((outputs[k] - outputs["exact"]).square().sum()) for k in (BROKEN, "after")}
    assert "moved" in done["0"].what
    ratio = wrong["after"] / wrong[BROKEN]
    assert ratio == pytest.approx(done["0"].after / done["0"].before, rel=1e-3)


def test_a_model_wins_and_repeats_bit_for_bit():
    exact, batches = convs(torch.float32)
    found = []
    for _ in range(2):
        model, _ = emulated((copy.deepcopy(exact), batches), mul=BROKEN)
        before = error(model, exact, batches)
        dv.remap_weights(model, batches)
        assert error(model, exact, batches) < 0.95 * before
        found.append(everything(model))
    assert same(*found)


def test_what_is_left_alone_says_why():
    model, batches = emulated(blocks(torch.float32), mul=BROKEN)
    dv.smoothquant(model, batches, fuse="never", select="0.q")
    done = dv.remap_weights(model, batches, select=["0.q", "0.k"])
    assert done["0.q"].what == "left as it is: its weight has a hidden smooth"

    tied = nn.Sequential(nn.Linear(6, 6), nn.ReLU(), nn.Linear(6, 6))
    tied[2].weight = tied[0].weight
    x = randn(8, 6)
    emulated((tied, [x]), mul=BROKEN)
    assert dv.remap_weights(tied, [x])["0"].what == "left as it is: its weight is also 2.weight"

    model, batches = emulated(convs(torch.float32))
    untouched = everything(model)
    done = dv.remap_weights(model, batches)
    assert {change.what for change in done} == {"left as it is: its sums would not gain"}
    assert same(everything(model), untouched)
