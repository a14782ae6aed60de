"""GPTQ: never worse than rounding, exactly what was chosen, for every format and sparsity."""

from __future__ import annotations

import copy

import pytest
import torch
from torch import nn

import dovetail as dv
from dovetail.emulation.calls import Call
from dovetail.emulation.sparsifying import sparse_weight
from dovetail.emulation.weights import uncast
from dovetail.kernels.geometry import LINEAR
from dovetail.recovery.batches import Batches
from dovetail.recovery.columns import Columns
from dovetail.recovery.compensation import inverse_factor, layout_of
from dovetail.recovery.gram import grams, weight_error
from dovetail.recovery.operations import PRODUCTS, operations
from dovetail.recovery.rounding import rounded_weight
from helpers import build, randn
from recovery.models import blocks, convs, emulated, error, everything, same

FORMATS = [
    "int3",
    "int4(full)",
    "int3(po2)",
    "int4(per_tensor)",
    "int4(group=8)",
    "int4(affine, group=8)",
    "uint4",
    "mxfp4",
    "mx(fp4_e2m1fn, block=8, mode=RCEIL)",
    "bfp(m=4, block=8)",
    "nvfp4",
    "SBFP<XP[4,0](CSN)><FP[0|4|4,7](FN)>{8}",
    "fp4_e2m1fn",
    "fixed(6, 4)",
]


def _products(model, batches):
    return operations(model, Batches(batches, model)).select("x", "*", PRODUCTS)


@pytest.mark.parametrize("weight", FORMATS)
@pytest.mark.parametrize(("make", "dtype"), [(blocks, torch.float32), (convs, torch.float64)])
@pytest.mark.parametrize("act_order", [False, True])
def test_the_objective_never_grows_and_is_what_it_says(weight, make, dtype, act_order):
    exact, batches = make(dtype)
    model = copy.deepcopy(exact)
    recipe = dv.Recipe(dv.rule("*", op="linear conv", weight=weight))
    dv.apply_(model, recipe, batches[0])
    before = everything(model)
    done = dv.gptq(model, batches, act_order=act_order)
    assert all(c.after <= c.before for c in done)
    assert any(c.after < 0.9 * c.before for c in done)
    dense = {op.key: op.weight.read() for op in _products(exact, batches)}
    ops = _products(model, batches)
    for op, gram in grams(exact, Batches(batches, exact), _products(exact, batches), "x"):
        (mine,) = [o for o in ops if o.key == op.key]
        rounded = rounded_weight(mine, mine.weight.read())
        wrong = weight_error(gram, rounded - dense[op.key]).sum()
        right = weight_error(gram, dense[op.key]).sum()
        assert done[op.key].after == pytest.approx(float(wrong / right), rel=1e-5)
    done.undo()
    assert same(everything(model), before)


def _columns_by_hand(op, gram, damp):
    """GPTQ by its definition: H^-1 is reduced after every column, nothing is put off."""
    weight = op.weight.read().double().clone()
    h = gram.matrix[0].clone()
    h += damp * h.diagonal().mean() * torch.eye(len(h), dtype=h.dtype)
    inverse, chosen = torch.linalg.inv(h), torch.zeros_like(weight)
    for j in range(len(h)):
        chosen[:, j] = rounded_weight(op, weight[:, j : j + 1].float()).double()[:, 0]
        step = (weight[:, j] - chosen[:, j]) / inverse[j, j]
        weight -= step[:, None] * inverse[j]
        inverse -= inverse[:, j : j + 1] * inverse[j] / inverse[j, j]
    return chosen.float()


@pytest.mark.parametrize("block", [1, 5, 128])
def test_columns_are_those_of_the_definition(block):
    net = build(0, lambda: nn.Sequential(nn.Linear(12, 6)))
    mixed = randn(12, 12, seed=5)
    batches = [randn(20, 12, seed=s) @ mixed for s in range(2)]
    dv.apply_(net, dv.Recipe(dv.rule("*", weight="fixed(5, 3)")), batches[0])
    (op,) = _products(net, batches)
    ((_, gram),) = grams(net, Batches(batches, net), [op], "x")
    wanted = _columns_by_hand(op, gram, 0.01)
    kept = op.weight.read().clone()
    nearest = weight_error(gram, rounded_weight(op, kept) - kept)
    better = weight_error(gram, wanted - kept) < nearest
    assert better.any()
    dv.gptq(net, batches, block=block)
    assert torch.equal(net[0].weight[better], wanted[better])


@pytest.mark.parametrize("weight", FORMATS)
def test_the_cast_of_what_is_written_is_what_was_chosen(weight, monkeypatch):
    chosen = {}
    take = Columns.round

    def round_(self, j, column):
        rounded = take(self, j, column)
        chosen.setdefault(id(self), (self, {}))[1][j] = rounded
        return rounded

    monkeypatch.setattr(Columns, "round", round_)
    net = build(0, lambda: nn.Sequential(nn.Linear(37, 24)))
    batches = [randn(40, 37)]
    dv.apply_(net, dv.Recipe(dv.rule("*", weight=weight)), batches[0])
    dv.gptq(net, batches)
    ((columns, rounded),) = chosen.values()
    (op,) = _products(net, batches)
    wanted = torch.stack([rounded[j] for j in range(37)], 1)
    again = rounded_weight(op, columns.written.mT.contiguous())
    assert torch.equal(again, wanted)
    assert (columns.written.mT == wanted).float().mean() > 0.5  # the rest decides the scales


@pytest.mark.parametrize("sparsity", ["2:4", "topk(0.5)", "topk(0.5, per_output)", "2:4(fixed)"])
@pytest.mark.parametrize("weight", ["int4", "mxfp4(block=8)", None])
def test_sparsity_is_chosen_or_respected(sparsity, weight):
    make = lambda: nn.Sequential(nn.Linear(16, 24), nn.ReLU(), nn.Linear(24, 8))  # noqa: E731
    exact = build(0, make)
    batches = [randn(64, 16, seed=s) @ randn(16, 16, seed=9) for s in range(2)]
    model = copy.deepcopy(exact)
    dv.apply_(model, dv.Recipe(dv.rule("*", weight=weight, sparsity=sparsity)), batches[0])
    masks = {
        op.key: sparse_weight(op.site, op.module, op.weight.read()) != 0
        for op in _products(model, batches)
    }
    before = error(model, exact, batches)
    done = dv.gptq(model, batches, act_order=True)
    assert all(c.after <= c.before for c in done)
    assert any(c.after < 0.9 * c.before for c in done)
    assert error(model, exact, batches) < before
    for op in _products(model, batches):
        kept = sparse_weight(op.site, op.module, op.weight.read()) != 0
        if "fixed" in sparsity:
            assert not (kept & ~masks[op.key]).any()
        elif sparsity == "2:4":
            assert (kept.unflatten(1, (-1, 4)).sum(-1) <= 2).all()
            assert (kept & ~masks[op.key]).any()
        else:
            assert kept.sum() <= kept.numel() / 2


def test_a_transformed_or_shared_weight_is_kept_hidden():
    exact, batches = blocks(torch.float32)
    model = copy.deepcopy(exact)
    dv.apply_(model, dv.Recipe(dv.rule("*", op="linear", weight="int3")), batches[0])
    parameters = copy.deepcopy(exact.state_dict())
    smooth = dv.smoothquant(model, batches, fuse="never")
    before = everything(model)
    done = dv.gptq(model, batches)
    assert all(c.after <= c.before for c in done)
    assert "hidden tensor" in done["0.down"].what
    assert all(torch.equal(v, parameters[k]) for k, v in model.state_dict().items())
    with pytest.raises(dv.DovetailError, match="its smooth changes it at every call"):
        dv.fold_(model)
    fresh, _ = blocks(torch.float32)
    dv.load_state(fresh, dv.state(model), batches[0])
    assert torch.equal(fresh(batches[0]), model(batches[0]))
    done.undo()
    assert same(everything(model), before)
    smooth.undo()
    dynamic = dv.smoothquant(model, batches, dynamic=True)
    with pytest.raises(dv.DovetailError, match="scaled by each call's own input"):
        dv.gptq(model, batches)
    dynamic.undo()

    class Tied(nn.Module):
        def __init__(self):
            super().__init__()
            self.a, self.b = nn.Linear(6, 6), nn.Linear(6, 6)
            self.b.weight = self.a.weight

        def forward(self, x):
            return self.b(torch.relu(self.a(x)))

    tied, x = build(0, Tied), randn(30, 6)
    dv.apply_(tied, dv.Recipe(dv.rule("*", weight="int3")), x)
    weight = tied.a.weight.detach().clone()
    done = dv.gptq(tied, [x])
    assert all(c.after <= c.before for c in done)
    assert torch.equal(tied.a.weight, weight)
    hidden = [uncast(op.site, op.module, _call(op, x)).weight for op in _products(tied, [x])]
    assert not torch.equal(*hidden)


def _call(op, x):
    return Call("linear", x, op.module.weight.detach(), None, LINEAR)


@pytest.mark.parametrize(
    "layer",
    [
        lambda: nn.Conv1d(4, 6, 3, dilation=2, padding="same"),
        lambda: nn.Conv3d(2, 3, 2, padding=(1, 0, 1)),
        lambda: nn.ConvTranspose2d(4, 6, 3, stride=2, padding=1, groups=2),
    ],
)
def test_every_kind_of_convolution(layer):
    net = build(0, lambda: nn.Sequential(layer()))
    conv = net[0]
    batches = [randn(2, conv.in_channels, *[5] * (conv.weight.dim() - 2), seed=s) for s in (0, 1)]
    batches = [x.cumsum(-1) for x in batches]
    dv.apply_(net, dv.Recipe(dv.rule("*", weight="int3")), batches[0])
    exact = copy.deepcopy(net)
    done = dv.gptq(net, batches, act_order=True)
    assert done["0"].after < 0.95 * done["0"].before
    assert not torch.equal(net[0].weight, exact[0].weight)


@pytest.mark.parametrize("dtype", [torch.float16, torch.bfloat16])
@pytest.mark.parametrize("weight", ["int4", "mxfp4", "uint4"])
def test_half_precision_and_what_fold_makes_of_it(dtype, weight):
    net = build(0, lambda: nn.Sequential(nn.Linear(32, 24))).to(dtype)
    x = (randn(64, 32) @ randn(32, 32, seed=3) / 6).to(dtype)
    dv.apply_(net, dv.Recipe(dv.rule("*", weight=weight)), x)
    done = dv.gptq(net, [x])
    assert done["0"].after < 0.7 * done["0"].before
    if weight != "uint4":  # its scale would come out different
        y = net(x)
        dv.fold_(net)
        assert torch.equal(net(x), y)


def test_inputs_that_are_never_used():
    net = build(0, lambda: nn.Sequential(nn.Linear(6, 4)))
    dv.apply_(net, dv.Recipe(dv.rule("*", weight="int3")), torch.ones(1, 6))
    x = randn(10, 6)
    x[:, [1, 4]] = 0
    assert dv.gptq(net, [x])["0"].after <= 1
    assert torch.isfinite(net[0].weight).all()
    done = dv.gptq(net, [torch.zeros(3, 6)])
    assert done["0"].after == 0


def test_the_factor_is_that_of_the_inverse():
    x = randn(30, 8, dtype=torch.float64)
    order = torch.tensor([3, 1, 0, 2, 7, 5, 6, 4])
    u = inverse_factor(x.mT @ x, order, 0.1)
    h = (x.mT @ x)[order][:, order]
    h += 0.1 * h.diagonal().mean() * torch.eye(8, dtype=h.dtype)
    assert torch.equal(u, u.triu())
    assert torch.allclose(u.mT @ u @ h, torch.eye(8, dtype=h.dtype), atol=1e-9)


def test_groups_stay_together_in_every_order():
    size = torch.rand(3 * 20, generator=torch.Generator().manual_seed(0))
    layout = layout_of((5, 20, 3), 8, 4, size, True)
    channel, tap = layout.order // 3, layout.order % 3
    assert layout.order.sort().values.equal(torch.arange(60))
    for starts, n in ((layout.shares, 8), (layout.runs, 4)):
        for start, stop in zip(starts, (*starts[1:], 60), strict=True):
            assert (
                len(
                    {
                        (int(c) // n, int(t))
                        for c, t in zip(channel[start:stop], tap[start:stop], strict=True)
                    }
                )
                == 1
            )
        assert len(starts) == 3 * -(-20 // n)
    assert layout_of((5, 20), 8, 5, torch.ones(20), False) is None


def test_repeating_gives_the_same_bits():
    found = []
    for _ in range(2):
        model, batches = emulated(blocks(torch.float32), weight="int4(group=8)")
        dv.gptq(model, batches, act_order=True)
        found.append(everything(model))
    assert same(*found)


def test_refusals():
    model, batches = blocks(torch.float32)
    with pytest.raises(dv.DovetailError, match=r"the weight of 0\.q has no format"):
        dv.gptq(model, batches)
    for damp in (0, -1.0, True):
        with pytest.raises(dv.DovetailError, match="is a positive share"):
            dv.gptq(model, batches, damp=damp)
    for block in (0, 2.5, True):
        with pytest.raises(dv.DovetailError, match="is a number of columns"):
            dv.gptq(model, batches, block=block)


@pytest.mark.parametrize(
    ("fields", "message"),
    [
        ({"weight": "int4(observer=mse)"}, "finds its range anew"),
        ({"weight": "int4(channel=1)"}, "has scales across the outputs"),
        ({"weight": "mxfp4(axis=0)"}, "has blocks across the outputs"),
        ({"weight": "int4(rounding=Stochastic)"}, "is drawn anew at every call"),
        ({"weight": "shaped(mxfp4, permute=(1, 0))"}, "sees it in another shape"),
        ({"weight": "mxfp4", "weight_storage": "bfp(m=8, block=16)"}, "give it one of them"),
    ],
)
def test_formats_that_cannot_be_rounded_by_columns(fields, message):
    net, x = build(0, lambda: nn.Sequential(nn.Linear(32, 32))), randn(4, 32)
    dv.apply_(net, dv.Recipe(dv.rule("*", **fields)), x)
    before = everything(net)
    with pytest.raises(dv.DovetailError, match=message):
        dv.gptq(net, [x])
    assert same(everything(net), before)
