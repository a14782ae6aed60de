"""AdaRound: neighbours of every weight, chosen so that the layer's error never grows."""

from __future__ import annotations

import copy
import itertools

import pytest
import torch
from torch import nn

import dovetail as dv
from dovetail.recovery.batches import Batches
from dovetail.recovery.gram import grams, weight_error
from dovetail.recovery.operations import PRODUCTS, operations
from dovetail.recovery.rounding import rounded_weight
from helpers import build, randn
from recovery.models import blocks, convs, everything, same

FORMATS = ["int3", "int4(affine)", "int4(group=8)", "mxfp4", "bfp(m=4, block=8)", "nvfp4", "nf4"]
FORMATS += ["SBFP<XP[4,0](CSN)><FP[0|4|4,7](FN)>{8}", "fp4_e2m1fn", "int3(per_tensor)"]


def prepared(make, weight, dtype=torch.float32, **fields):
    exact, batches = make(dtype)
    model = copy.deepcopy(exact)
    dv.apply_(model, dv.Recipe(dv.rule("*", op="linear conv", weight=weight, **fields)), batches[0])
    return exact, model, batches


def products(model, batches):
    return operations(model, Batches(batches, model)).select("x", "*", PRODUCTS)


@pytest.mark.parametrize(
    ("make", "dtype", "weight"),
    [(blocks, torch.float32, weight) for weight in FORMATS]
    + [(convs, torch.float64, weight) for weight in ("int3", "int4(group=8)", "mxfp4")],
)
def test_the_objective_never_grows_and_is_what_it_says(make, dtype, weight):
    exact, model, batches = prepared(make, weight, dtype)
    before = everything(model)
    done = dv.adaround(model, batches, steps=60)
    assert all(c.after <= c.before for c in done)
    assert any(c.after < 0.99 * c.before for c in done)
    dense = {op.key: op.weight.read() for op in products(exact, batches)}
    for op, gram in grams(exact, Batches(batches, exact), products(exact, batches), "x"):
        mine = next(one for one in products(model, batches) if one.key == op.key)
        left = rounded_weight(mine, mine.weight.read()) - dense[op.key]
        power = float(weight_error(gram, dense[op.key]).sum())
        assert float(weight_error(gram, left).sum()) / power == pytest.approx(
            done[op.key].after, rel=1e-3
        )
    done.undo()
    assert same(before, everything(model))


@pytest.mark.parametrize("weight", ["int3", "int4(group=8)", "mxfp4", "fixed(5, 3)"])
def test_every_weight_becomes_one_of_its_neighbours(weight):
    exact, model, batches = prepared(blocks, weight)
    dv.adaround(model, batches, steps=100)
    own, changed = {op.key: op.weight.read() for op in products(exact, batches)}, False
    for op in products(model, batches):
        got = rounded_weight(op, op.weight.read())
        ways = []
        for mode in ("TowardNegative", "TowardPositive"):
            turned = (
                weight[:-1] + f", rounding={mode})"
                if "(" in weight
                else f"{weight}(rounding={mode})"
            )
            if "int" in weight and "group" not in weight:
                ways.append(dv.cast(own[op.key], turned, channel=0))
            else:
                ways.append(dv.cast(own[op.key], turned))
        assert bool(((got == ways[0]) | (got == ways[1])).all())
        changed |= not torch.equal(got, rounded_weight(op, own[op.key]))
    assert changed


def test_on_a_small_layer_it_finds_nearly_the_best_of_all_choices():
    won = 0
    for seed in range(6):
        layer = build(seed, lambda: nn.Linear(8, 1, bias=False))
        x = randn(64, 8, seed=seed) @ randn(8, 8, seed=seed + 100)
        model = nn.Sequential(copy.deepcopy(layer))
        dv.apply_(model, dv.Recipe(dv.rule("*", weight="fixed(4, 3)")), x)
        done = dv.adaround(model, [x])
        w = layer.weight.detach()[0]
        down = dv.cast(w, "fixed(4, 3, rounding=TowardNegative)")
        up = dv.cast(w, "fixed(4, 3, rounding=TowardPositive)")
        power = float((x @ w).square().sum())
        errors = [
            float((x @ (torch.where(torch.tensor(choice), up, down) - w)).square().sum()) / power
            for choice in itertools.product([False, True], repeat=8)
        ]
        assert min(errors) * (1 - 1e-4) <= done["0"].after <= done["0"].before
        won += done["0"].after <= sorted(errors)[8]
    assert won >= 5


@pytest.mark.parametrize("pattern", ["2:4", "topk(0.5)"])
def test_what_sparsity_takes_away_stays_away(pattern):
    _, model, batches = prepared(blocks, "int4", sparsity=pattern)
    ops = products(model, batches)
    dropped = {op.key: op.weight.read() == 0 for op in ops}
    done = dv.adaround(model, batches, steps=50)
    assert all(c.after <= c.before for c in done)
    assert all(bool((op.weight.read()[dropped[op.key]] == 0).all()) for op in ops)


def test_a_repeat_gives_the_same_bits_and_a_file_names_it():
    found = []
    for _ in range(2):
        _, model, batches = prepared(blocks, "int3")
        dv.adaround(model, batches, steps=40)
        found.append(everything(model))
    assert same(*found)
    from dovetail.recipe.schema import loads

    text = "{dovetail: 1, rules: [{weight: int4}], recover: [{adaround: {steps: 9}}]}"
    assert loads(text).spec.recover[0].options["steps"] == 9


@pytest.mark.parametrize(
    ("weight", "options", "message"),
    [
        ("int4", {"steps": 0}, "steps=0 is a number of steps"),
        ("int4", {"rate": 0}, "rate=0 is a positive number"),
        ("int4", {"press": True}, "press=True is a positive number"),
        ("int4(rounding=Stochastic)", {}, "is drawn anew at every call"),
        ("same", {}, "does not round down or up|has no format"),
    ],
)
def test_refusals_change_nothing(weight, options, message):
    _, model, batches = prepared(blocks, weight)
    before = everything(model)
    with pytest.raises(dv.DovetailError, match=message):
        dv.adaround(model, batches, **options)
    assert same(before, everything(model))
