"""Control variates: the least-squares line of a multiplier's error, by hand and by lstsq."""

from __future__ import annotations

import copy

import pytest
import torch
from torch import nn

import dovetail as dv
from dovetail.recovery.batches import Batches
from dovetail.recovery.code_products import code_operations, watch_codes
from helpers import build, randn
from recovery.models import convs, emulated, error, everything, same

BROKEN = "broken_array(bits=8, drop_columns=8)"
LOW_BIT = "mul8s_1KVM"  # (a & ~1) * w


def _units(weight, **fields):
    """A linear layer under int8 whose codes are its numbers: a column of 127 sees no input."""
    weight = torch.tensor([[*row, 127.0] for row in weight])
    net = nn.Sequential(nn.Linear(weight.shape[1], len(weight), bias=False))
    with torch.no_grad():
        net[0].weight.copy_(weight)
    rule = dv.rule("*", **({"input": "int8", "weight": "int8"} | fields))
    dv.apply_(net, dv.Recipe(rule), torch.full((1, weight.shape[1]), 127.0))
    return net


def test_dropped_bits_by_hand():
    """Error ``-sum w_k (a_k & 1)``; its line in ``S = sum (a_k & 1)``, from four inputs."""
    x = torch.tensor([[1.0, 1.0, 0.0], [1.0, 2.0, 0.0], [2.0, 3.0, 0.0], [4.0, -6.0, 0.0]])
    net = _units([[10.0, 20.0], [-5.0, -5.0]], mul=LOW_BIT)
    done = dv.control_variate(net, [x[:3], x[3:]])
    held = net[0]
    term = held._dovetail_linear_transform0_term
    assert term[[0, 1, 2, 3, -1, -2]].tolist() == [0, 1, 0, 1, 1, 0]
    # S = 2, 1, 1, 0; errors -30, -10, -20, 0 and 10, 5, 5, 0: cov / var = -15 and 5, mean 0 left
    assert held._dovetail_linear_transform0_slope.tolist() == [-15.0, 5.0]
    assert held._dovetail_linear_transform0_level.tolist() == [0.0, 0.0]
    exact = x @ held.weight.mT
    left = torch.tensor([[0.0, 0.0], [5.0, 0.0], [-5.0, 0.0], [0.0, 0.0]])
    assert torch.equal(net(x), exact + left)
    power = float(exact.detach().square().sum())
    assert done["0"].before == pytest.approx((900 + 100 + 400 + 150) / power)
    assert done["0"].after == pytest.approx(50 / power)


def test_the_line_is_the_least_squares_one_and_objective_is_what_it_says():
    model, batches = emulated(convs(), mul=BROKEN)
    ops = code_operations("x", model, Batches(batches, model), "*")
    pieces = {op: [] for op in ops}

    def see(op, _, call):
        pieces[op].append((call, call.sums(op.site.arithmetic.mul), call.sums("exact")))

    watch_codes(model, Batches(batches, model), ops, see, "x")
    before = {c.op: c.before for c in dv.control_variate(model, batches)}
    for op in ops:
        worth = pieces[op][0][0].weight_scale[:, None] ** 2
        wrong = sum(float(((y - e).square() * worth).sum()) for _, y, e in pieces[op])
        power = sum(float((e.square() * worth).sum()) for _, _, e in pieces[op])
        assert before[op.key] == pytest.approx(wrong / power, rel=1e-9)


@pytest.mark.parametrize("mul", [BROKEN, LOW_BIT, "mul8s_1L2H@v1.1"])
def test_it_wins_back_what_the_multiplier_lost(mul):
    exact, batches = convs(torch.float32)
    model, _ = emulated((copy.deepcopy(exact), batches), mul=mul)
    before, untouched = error(model, exact, batches), everything(model)
    done = dv.control_variate(model, batches)
    assert all(change.after <= change.before for change in done)
    assert error(model, exact, batches) < 0.8 * before
    fresh, _ = convs(torch.float32)
    dv.load_state(fresh, dv.state(model), batches[0])
    assert torch.equal(fresh(batches[0]), model(batches[0]))
    done.undo()
    assert same(everything(model), untouched)


LAYERS = [
    (lambda: nn.Linear(6, 4), (5, 6)),
    (lambda: nn.Conv1d(4, 6, 3, dilation=2, padding="same", groups=2), (4, 7)),
    (lambda: nn.Conv2d(4, 6, 3, padding=1, stride=2), (4, 5, 5)),
    (lambda: nn.Conv3d(2, 4, 2, padding=(1, 0, 1), groups=2), (2, 4, 4, 4)),
    (lambda: nn.ConvTranspose2d(4, 6, 3, stride=2, padding=1, groups=2), (4, 4, 4)),
]


@pytest.mark.parametrize(("layer", "shape"), LAYERS)
@pytest.mark.parametrize(
    "fields", [{}, {"input": "int8(affine)"}, {"input": "int8(dynamic)"}, {"weight": "int4"}]
)
def test_the_objective_is_what_the_layer_does(layer, shape, fields):
    """The layer's own output, before and after, against the exact product of the same codes."""
    outputs = {}
    for mul in ("exact", BROKEN):
        net, x = nn.Sequential(build(0, layer)), randn(3, *shape).abs()
        emulated((net, [x]), mul=mul, **fields)
        outputs[mul] = net(x).detach().double()
    done = dv.control_variate(net, [x])
    outputs["after"] = net(x).detach().double()
    wrong = {k: float((outputs[k] - outputs["exact"]).square().sum()) for k in (BROKEN, "after")}
    assert done["0"].after < done["0"].before
    ratio = wrong["after"] / wrong[BROKEN]
    assert ratio == pytest.approx(done["0"].after / done["0"].before, rel=1e-3)


def test_exact_products_are_left_alone_and_need_nothing():
    model, batches = emulated(convs())
    untouched = everything(model)
    done = dv.control_variate(model, batches)
    assert {change.what for change in done} == {"left as it is"}
    assert same(everything(model), untouched)


def test_it_stands_on_other_recipes_and_repeats_bit_for_bit():
    found = []
    for _ in range(2):
        model, batches = emulated(convs(torch.float32), mul=BROKEN)
        dv.smoothquant(model, batches, fuse="never")
        dv.control_variate(model, batches)
        dv.correct_bias(model, batches)
        found.append(everything(model))
    assert same(*found)


def test_compiled_it_gives_the_same_bits():
    layers = build(0, lambda: nn.Sequential(nn.Conv1d(4, 4, 1), nn.Flatten(), nn.Linear(12, 2)))
    model, batches = emulated((layers, [randn(2, 4, 3)]), mul=BROKEN, input="int8(affine)")
    dv.control_variate(model, batches)
    with torch.no_grad():
        wanted = model(batches[0])
        compiled = torch.compile(model, backend="eager", fullgraph=True)
        assert torch.equal(compiled(batches[0]), wanted)


def test_gradients_pass_as_without_it():
    grads = []
    for correct in (False, True):
        model, batches = emulated(convs(torch.float32), mul=BROKEN)
        if correct:
            dv.control_variate(model, batches, select="head")
        model(batches[0]).sum().backward()
        grads.append([p.grad for p in model.parameters()])
    assert all(torch.equal(a, b) for a, b in zip(*grads, strict=True))


def test_refusals():
    model, batches = convs(torch.float32)
    with pytest.raises(dv.DovetailError, match=r"not emulated: call dv\.apply_"):
        dv.control_variate(model, batches)
    for fields, message in [
        ({"input": "bf16"}, "a multiplies no integer codes"),
        ({"input": "int12"}, "tabulates products of up to 8 x 8 bits, and a multiplies int12"),
        ({"input": "int8(rounding=Stochastic)"}, "codes of a are drawn, as input="),
    ]:
        model, batches = emulated(convs(torch.float32), **fields)
        untouched = everything(model)
        with pytest.raises(dv.DovetailError, match=message):
            dv.control_variate(model, batches)
        assert same(everything(model), untouched)
    model, batches = emulated(convs(torch.float32))
    with pytest.raises(dv.DovetailError, match="values that are not finite"):
        dv.control_variate(model, [torch.full_like(batches[0], float("nan"))])
    with pytest.raises(dv.DovetailError, match="no batch reached a"):
        dv.control_variate(model, [batches[0][:0]])
