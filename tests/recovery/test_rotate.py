"""Rotations: matrices that are orthogonal, functions that stay, outliers that are spread."""

from __future__ import annotations

import copy

import pytest
import torch
from torch import nn

import dovetail as dv
from dovetail.recovery.hadamard import hadamard, rotation
from helpers import build, randn
from recovery.models import blocks, convs, emulated, error, everything, same


@pytest.mark.parametrize("order", range(1, 130))
def test_hadamard_matrices_and_rotations(order):
    found = hadamard(order)
    if found is not None:
        assert set(found.unique().tolist()) <= {-1.0, 1.0}
        assert torch.equal(found @ found.mT, order * torch.eye(order, dtype=torch.float64))
    left, right, name = rotation(order)
    whole = torch.kron(left, right)
    assert whole.shape == (order, order)
    assert (whole @ whole.mT - torch.eye(order)).abs().max() < 1e-13
    odd = order // (order & -order)
    assert ("random orthogonal" in name) == (
        not any(hadamard(odd * 2**j) is not None for j in range(10) if order % (odd * 2**j) == 0)
    )


def test_known_orders():
    known = [n for n in range(4, 130, 4) if hadamard(n) is not None]
    assert set(range(4, 130, 4)) - set(known) == {52, 92, 100, 116}
    assert rotation(3072)[2] == rotation(768)[2] == "Hadamard"
    assert max(map(len, rotation(4096)[:2])) == 64
    assert torch.equal(rotation(23, seed=1)[1], rotation(23, seed=1)[1])
    assert not torch.equal(rotation(23, seed=1)[1], rotation(23, seed=2)[1])


@pytest.mark.parametrize("options", [{}, {"block": 8}, {"select": "?.down"}])
def test_under_exact_arithmetic_the_function_stays(options):
    model, batches = blocks()
    wanted = [model(b).detach() for b in batches]
    dv.apply_(model, dv.Recipe(dv.rule("*", output="SAME")), batches[0])
    before = everything(model)
    done = dv.rotate(model, batches, **options)
    for batch, y in zip(batches, wanted, strict=True):
        assert float((model(batch).detach() - y).abs().max()) < 1e-12 * float(y.abs().max())
    done.undo()
    assert same(everything(model), before)


@pytest.mark.parametrize(
    "layer",
    [
        lambda: nn.Conv2d(6, 4, 3, padding=1),
        lambda: nn.Conv2d(8, 4, 3, stride=2, groups=2),
        lambda: nn.Conv1d(12, 5, 3, dilation=2, padding="same"),
        lambda: nn.Conv3d(4, 3, 2),
        lambda: nn.ConvTranspose2d(6, 4, 3, stride=2, padding=1),
        lambda: nn.ConvTranspose2d(8, 4, 3, groups=2),
    ],
)
def test_convolutions_of_every_kind(layer):
    model = nn.Sequential(build(0, layer)).double()
    spatial = model[0].weight.dim() - 2
    x = randn(2, model[0].in_channels, *[5] * spatial, dtype=torch.float64)
    wanted = model(x).detach()
    dv.apply_(model, dv.Recipe(dv.rule("*", output="SAME")), x)
    for recipe in (dv.rotate, dv.smoothquant):
        before = everything(model)
        recipe(model, [x])
        assert not same(everything(model), before)
        assert float((model(x).detach() - wanted).abs().max()) < 1e-12


def test_attentions_two_products():
    model, batches = blocks()
    wanted = model(batches[0]).detach()
    dv.apply_(model, dv.Recipe(dv.rule(op="matmul", output="SAME")), batches[0])
    done = dv.rotate(model, batches, select="?:matmul_0")
    assert done["0:matmul_0"].what == "Hadamard over 16 channels"
    assert float((model(batches[0]).detach() - wanted).abs().max()) < 1e-12 * float(
        wanted.abs().max()
    )


def test_outliers_are_spread_and_four_bits_lose_less():
    exact = nn.Sequential(build(0, lambda: nn.Linear(64, 16)))
    batches = [randn(32, 64, seed=s) for s in range(2)]
    for batch in batches:
        batch[:, 5] *= 50
    model = copy.deepcopy(exact)
    emulated((model, batches), input="int4", weight="int8")
    before = error(model, exact, batches)
    done = dv.rotate(model, batches)
    assert done["0"].after < 0.5 * done["0"].before
    assert error(model, exact, batches) < 0.5 * before
    x, w = batches[0], exact[0].weight.detach()
    turn = torch.kron(*rotation(64)[:2])
    scale = float(torch.cat([b @ turn.float() for b in batches]).abs().max()) / 127 * 127 / 7
    assert float(model[0]._dovetail_linear_input_scale) == pytest.approx(scale, rel=1e-5)
    assert float((x @ turn.float()).abs().max()) <= 7.01 * scale
    assert w.shape == (16, 64)


def test_depthwise_convolutions_are_left():
    model, batches = emulated(convs())
    done = dv.rotate(model, batches)
    assert done["b"].what == "left, as it sums over one channel"
    assert [done[key].what for key in ("a", "c", "head")] == [
        "random orthogonal 3 over 3 channels",
        "Hadamard over 4 channels",
        "Hadamard over 12 channels",
    ]


def test_refusals():
    model, batches = convs()
    with pytest.raises(dv.DovetailError, match="this model is not emulated"):
        dv.rotate(model, batches)
    emulated((model, batches))
    before = everything(model)
    for options, message in (
        ({"select": "b"}, "rotate: b sums over one channel"),
        ({"select": "c", "block": 3}, "block=3 does not divide the 4 channels of c, as 2 does"),
        ({"select": "c", "block": 1}, "block=1 is a number of channels"),
        ({"select": "c", "observer": "x"}, "unknown observer 'x'"),
    ):
        with pytest.raises(dv.DovetailError, match=message):
            dv.rotate(model, batches, **options)
    assert same(everything(model), before)
