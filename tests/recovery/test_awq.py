"""AWQ: the layer's objective never grows; Gram matrices mean what they say."""

from __future__ import annotations

import copy

import pytest
import torch
from torch import nn

import dovetail as dv
from dovetail.emulation.trace import watching
from dovetail.emulation.weights import uncast
from dovetail.recovery.batches import Batches
from dovetail.recovery.gram import grams, weight_error
from dovetail.recovery.journal import Journal
from dovetail.recovery.operations import PRODUCTS, operations
from dovetail.recovery.rounding import rounded_weight
from helpers import build, randn
from recovery.models import blocks, convs, emulated, error, everything, same


@pytest.mark.parametrize(
    "layer",
    [
        lambda: nn.Linear(6, 4),
        lambda: nn.Conv2d(4, 6, 3, padding=1, stride=2, groups=2),
        lambda: nn.Conv1d(4, 6, 3, dilation=2, padding="same"),
        lambda: nn.Conv3d(2, 3, 2, padding=(1, 0, 1)),
        lambda: nn.ConvTranspose2d(4, 6, 3, stride=2, padding=1, groups=2),
    ],
)
def test_a_gram_matrix_gives_the_squared_error_of_the_output(layer):
    model = nn.Sequential(build(0, layer)).double()
    shape = (
        (6,)
        if isinstance(model[0], nn.Linear)
        else (model[0].in_channels, *[5] * (model[0].weight.dim() - 2))
    )
    batches = [randn(2, *shape, seed=s, dtype=torch.float64) for s in range(2)]
    found = operations(model, Batches(batches, model))
    (op,) = found.select("x", "*", PRODUCTS)
    ((_, gram),) = grams(model, Batches(batches, model), [op], "x")
    change = randn(*gram.weight.shape, seed=9, dtype=torch.float64)
    before = [model(b).detach() for b in batches]
    op.weight.write(gram.weight + change, Journal())
    moved = [
        (model(b).detach() - y).movedim(1, 0).flatten(1)
        for b, y in zip(batches, before, strict=True)
    ]
    wanted = torch.cat(moved, 1).square().sum(1)
    assert torch.allclose(weight_error(gram, change), wanted, rtol=1e-10)


FORMATS = ["int3", "int4(per_tensor)", "int4(group=8)", "mxfp4", "bfp(m=4, block=8)", "nvfp4"]


@pytest.mark.parametrize("weight", FORMATS)
@pytest.mark.parametrize("clip", [False, True])
def test_the_objective_never_grows_and_is_what_it_says(weight, clip):
    exact, batches = blocks()
    model = copy.deepcopy(exact)
    dv.apply_(model, dv.Recipe(dv.rule("*", op="linear", weight=weight)), batches[0])
    before = everything(model)
    done = dv.awq(model, batches, grid=8, clip=clip, fuse="never")
    assert all(c.after <= c.before for c in done)
    assert any(c.after < 0.9 * c.before for c in done)
    if clip and weight == "int3":
        assert any(c.what.endswith("clipped") for c in done)
    found = operations(model, Batches(batches, model))
    (op,) = found.select("x", "0.down", PRODUCTS)
    seen = {}

    def see(place, call, result):
        seen.setdefault(place[0], []).append((call, result))

    with torch.no_grad(), watching(model, see):
        for batch in batches:
            model(batch)
    wrong = right = 0.0
    for call, result in seen["0.down"]:
        ready = uncast(op.site, op.module, call)
        rounded = ready.with_operands(ready.x, rounded_weight(op, ready.weight), ready.bias).exact()
        wrong += float((rounded - result).detach().square().sum())
        right += float((result - exact[0].down.bias).detach().square().sum())
    assert done["0.down"].after == pytest.approx(wrong / right, rel=1e-6)
    done.undo()
    assert same(everything(model), before)


def test_norms_take_the_scale_where_they_can_and_its_takers_share_it():
    exact, batches = blocks(torch.float32)
    model = copy.deepcopy(exact)
    dv.apply_(model, dv.Recipe(dv.rule("*", op="linear", weight="int4")), batches[0])
    before, untouched = error(model, exact, batches), everything(model)
    done = dv.awq(model, batches)
    where = {c.op: c.what for c in done}
    assert where["0.q"] == where["0.k"] == where["0.v"] == "scale in 0.n1"
    assert error(model, exact, batches) < 0.8 * before
    done.undo()
    assert same(everything(model), untouched)


def test_convolutions_under_static_ranges():
    exact, batches = convs(torch.float32)
    model = copy.deepcopy(exact)
    emulated((model, batches), input="int8", weight="int3")
    done = dv.awq(model, batches, clip=True)
    assert all(c.after <= c.before for c in done)
    assert torch.isfinite(model(batches[0])).all()


def test_repeating_gives_the_same_bits():
    found = []
    for _ in range(2):
        model, batches = emulated(blocks(torch.float32), weight="int4")
        dv.awq(model, batches, clip=True)
        found.append(everything(model))
    assert same(*found)


def test_refusals():
    model, batches = blocks()
    with pytest.raises(dv.DovetailError, match=r"the weight of 0\.q has no format"):
        dv.awq(model, batches)
    dv.apply_(model, dv.Recipe(dv.rule("*", input="int8")), batches[0])
    with pytest.raises(dv.DovetailError, match=r"the weight of 0\.q has no format"):
        dv.awq(model, batches)
    for grid in (0, 2.5, True):
        with pytest.raises(dv.DovetailError, match="is a number of values to try"):
            dv.awq(model, batches, grid=grid)
    model, batches = emulated(blocks())
    before = everything(model)
    with pytest.raises(dv.DovetailError, match="values that are not finite"):
        dv.awq(model, [*batches, torch.full_like(batches[0], float("nan"))])
    assert same(everything(model), before)
