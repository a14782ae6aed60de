"""Integer formats with every rounding mode, in every slot and kind of product."""

from __future__ import annotations

import copy

import pytest
import torch
import torch.nn.functional as F
from torch import nn
from torch.utils.checkpoint import checkpoint

import dovetail as dv
from dovetail.kernels import native, using
from format_oracles import MODES, with_mode
from helpers import build, randn

ALL = (*MODES, "Stochastic(8)")
LEVELS = native.levels() if native.available() else [None]


@pytest.fixture(params=LEVELS)
def level(request):
    if request.param is not None:
        native.set_isa(request.param)
    yield request.param
    if request.param is not None:
        native.set_isa(None)


def emulated(module: nn.Module, example, **fields) -> nn.Module:
    module = module.eval()
    dv.apply_(module, dv.Recipe(dv.rule("*", **fields)), example)
    return module


def seeded_call(function, *args):
    torch.manual_seed(7)
    return function(*args)


def tied(*shape):
    """Random quarters of steps: int8 meets ties, and values on the grid."""
    steps = torch.randint(-508, 509, shape, generator=torch.Generator().manual_seed(3)) / 4
    steps.view(-1)[0] = 127.0
    return steps / 32


def operand(x, name, scale, axis=None):
    """Codes (without zero point) of an operand that the next draws belong to, in float64."""
    y = dv.cast(x.float(), name, scale=scale, channel=axis)
    if axis is not None:
        scale = scale.view(-1, *[1] * (x.dim() - 1))
    return torch.round(y.double() / scale)


def scale_of(x, axis=None):
    peak = x.abs() if axis is None else x.abs().flatten(1)
    return (peak.max() if axis is None else peak.amax(1)).float() / 127


def product(x, w, bias, name, function, axis=0):
    """The layer by its definition: exact sums of codes, scaled in float32."""
    xs, ws = scale_of(x), scale_of(w, axis)
    a = operand(x, name, xs)
    total = function(a, operand(w, name, ws, axis)).float()
    scales = xs * ws
    shape = (-1, *[1] * (total.dim() - 2)) if total.dim() > 2 and scales.dim() else (-1,)
    y = total * (scales.view(shape) if scales.dim() else scales)
    return y if bias is None else y + bias.float().view(shape)


def linear(a, w):
    return a @ w.mT


@pytest.mark.parametrize("mode", ALL)
@pytest.mark.parametrize("dtype", [torch.float32, torch.bfloat16, torch.float16], ids=str)
def test_products_are_those_of_the_rounded_codes(level, mode, dtype):
    name = f"int8(rounding={mode})"
    dynamic = {"input": f"int8(dynamic, rounding={mode})", "weight": name}
    cases = (
        (nn.Linear(33, 7), tied(4, 33), linear),
        (nn.Conv2d(4, 6, 3, padding=1), tied(2, 4, 5, 5), lambda a, w: F.conv2d(a, w, padding=1)),
        (nn.Conv1d(4, 6, 3, groups=2), tied(2, 4, 9), lambda a, w: F.conv1d(a, w, groups=2)),
    )
    for layer, x, function in cases:
        layer, x = layer.to(dtype), x.to(dtype)
        w, bias = layer.weight.detach(), layer.bias.detach()
        with torch.no_grad():
            expected = seeded_call(lambda: product(x, w, bias, name, function)).to(dtype)  # noqa: B023
            found = seeded_call(emulated(layer, x, **dynamic), x)
        assert torch.equal(found, expected), (layer, mode)


@pytest.mark.parametrize("mode", ALL)
def test_matmuls_and_transposed_convolutions(level, mode):
    class Product(nn.Module):
        def forward(self, a, b):
            return a @ b

    name, dynamic = f"int8(rounding={mode})", f"int8(dynamic, rounding={mode})"
    fields = {"input": dynamic, "weight": dynamic}
    for a, b in ((randn(4, 9), randn(9, 5)), (randn(3, 4, 9), randn(3, 9, 5))):
        expected = seeded_call(lambda: product(a, b, None, name, torch.matmul, None))  # noqa: B023
        assert torch.equal(seeded_call(emulated(Product(), (a, b), **fields), a, b), expected)
    layer, x = nn.ConvTranspose2d(4, 6, 3, stride=2, padding=1, bias=False), randn(2, 4, 5, 5)
    y = seeded_call(emulated(layer, x, input=dynamic, weight=f"int8(po2, rounding={mode})"), x)
    if "Stochastic" not in mode:
        w = dv.cast(layer.weight, f"int8(po2, rounding={mode})", channel=1)
        exact = F.conv_transpose2d(dv.cast(x, name).double(), w.double(), stride=2, padding=1)
        torch.testing.assert_close(y.double(), exact, rtol=1e-6, atol=1e-6)
    else:
        assert not torch.equal(y, layer(x))


@pytest.mark.parametrize("mode", ["TowardZero", "TowardNegative", "ToOdd"])
@pytest.mark.parametrize("fields", [{}, {"mul": "mul8s_1KV9"}, {"acc": "int16(saturate)"}])
@pytest.mark.parametrize("x_format", ["int8", "uint8(dynamic)"])
def test_every_realisation_of_codes_agrees(mode, fields, x_format):
    class Net(nn.Module):
        def __init__(self):
            super().__init__()
            self.fc = nn.Linear(16, 8)
            self.rnn = nn.LSTM(8, 6)
            self.conv = nn.Conv1d(6, 3, 3)

        def forward(self, x):
            y, _ = self.rnn(self.fc(x))
            return self.conv(y.mT @ y)

    if "mul" in fields:
        x_format = "int8"
    net, x = build(0, Net), randn(5, 2, 16)
    rule = {"input": with_mode(x_format, rounding=mode), "weight": f"int8(rounding={mode})"}
    nearest = emulated(copy.deepcopy(net), x, input=x_format, weight="int8", **fields)
    directed = emulated(net, x, **rule, **fields)
    with torch.no_grad():
        y = directed(x)
        with using("reference"):
            assert torch.equal(directed(x), y)
        assert not torch.equal(nearest(x), y)


@pytest.mark.parametrize("mode", ["TowardZero", "Stochastic(8)"])
def test_every_slot_is_rounded_so(mode):
    name = f"int8(dynamic, rounding={mode})"
    plain = f"int8(rounding={mode})"
    layer, x = nn.Linear(16, 4), randn(3, 16)
    w, bias = layer.weight.detach(), layer.bias.detach()

    def by_hand():
        stored = dv.cast(w, plain, channel=0)
        return dv.cast(F.linear(x, stored, dv.cast(bias, plain)), plain)

    expected = seeded_call(by_hand)
    emulated(layer, x, weight_storage=plain, bias=plain, output=name)
    with torch.no_grad():
        assert torch.equal(seeded_call(layer, x), expected)

    class Sum(nn.Module):
        def forward(self, a, b):
            return a + b

    sums, (a, b) = Sum(), (randn(3, 4), randn(3, 4, seed=1))
    dv.apply_(sums, dv.Recipe(dv.rule("*", op="add", input=name, other=name)), (a, b))
    expected = seeded_call(lambda: dv.cast(a, plain) + dv.cast(b, plain))
    assert torch.equal(seeded_call(sums, a, b), expected)
    grouped, x = nn.Linear(16, 4, bias=False), randn(3, 16)
    group = f"int4(group=8, rounding={mode})"
    expected = seeded_call(lambda: F.linear(dv.cast(x, group), dv.cast(grouped.weight, group)))
    found = seeded_call(emulated(grouped, x, input=group, weight=group), x)
    assert torch.equal(found, expected)


@pytest.mark.parametrize("mode", ["TowardZero", "Stochastic(8)"])
@pytest.mark.parametrize("static", [True, False])
def test_gradients_are_straight_through(mode, static):
    x = randn(6, 12, seed=2)
    layer = build(0, lambda: nn.Linear(12, 5, bias=False))
    given = f"int8(rounding={mode})" if static else f"int8(dynamic, rounding={mode})"
    emulated(layer, x / 2, input=given, weight=f"int8(rounding={mode})")
    scale = scale_of(x / 2 if static else x)
    leaf, w = x.clone().requires_grad_(), layer.weight.detach().clone().requires_grad_()

    def by_hand():
        a = dv.cast(leaf, f"int8(rounding={mode})", scale=scale, clip=static)
        b = dv.cast(w, f"int8(rounding={mode})", channel=0, clip=False)
        F.linear(a, b).square().sum().backward()

    ours = x.clone().requires_grad_()
    seeded_call(lambda: layer(ours).square().sum().backward())
    seeded_call(by_hand)
    torch.testing.assert_close(ours.grad, leaf.grad)
    torch.testing.assert_close(layer.weight.grad, w.grad)
    assert not static or bool((ours.grad == 0).any())

    def loss(weight, v):
        return torch.func.functional_call(layer, {"weight": weight}, v).square().sum()

    gw, gx = seeded_call(torch.func.grad(loss, (0, 1)), layer.weight.detach(), x)
    torch.testing.assert_close(gx, leaf.grad)
    torch.testing.assert_close(gw, w.grad)


@pytest.mark.parametrize("reentrant", [True, False])
def test_checkpoints_draw_the_same_again(reentrant):
    class Net(nn.Module):
        def __init__(self):
            super().__init__()
            self.body = nn.Sequential(nn.Linear(4, 8), nn.ReLU(), nn.Linear(8, 4))
            self.on = False

        def forward(self, x):
            return checkpoint(self.body, x, use_reentrant=reentrant) if self.on else self.body(x)

    model, x = build(0, Net), randn(3, 4)
    name = "int8(rounding=Stochastic(8))"
    emulated(model, x, input=name, weight=name)
    grads = []
    for model.on in (False, True):
        model.zero_grad()
        leaf = x.clone().requires_grad_()
        seeded_call(lambda: model(leaf).square().sum().backward())  # noqa: B023
        grads.append([leaf.grad, *(p.grad.clone() for p in model.parameters())])
    for plain, recomputed in zip(*grads, strict=True):
        assert torch.equal(plain, recomputed)


@pytest.mark.parametrize("mode", ["ToOdd", "Stochastic(8)"])
def test_graphs_have_the_same_bits(mode):
    net = nn.Sequential(nn.Conv1d(2, 4, 3), nn.Flatten(), nn.Linear(24, 5))
    x = randn(3, 2, 8)
    emulated(net, x, input=f"int8(rounding={mode})", weight=f"int8(rounding={mode})")
    with torch.no_grad():
        expected = seeded_call(net, x)
        torch._dynamo.reset()
        compiled = torch.compile(net, fullgraph=True, backend="aot_eager")
        assert torch.equal(seeded_call(compiled, x), expected)
        exported = torch.export.export(net, (x,)).module()
        assert torch.equal(seeded_call(exported, x), expected)
        if mode == "Stochastic(8)":
            assert not torch.equal(exported(x), expected)
            assert not torch.equal(compiled(x), expected)


def test_stochastic_weights_are_drawn_at_every_call_and_others_kept():
    x = randn(8, 32)
    layer = emulated(nn.Linear(32, 8), x, input="int8", weight="int8(rounding=Stochastic(8))")
    with torch.no_grad():
        first = seeded_call(layer, x)
        assert not torch.equal(layer(x), first)
        assert torch.equal(seeded_call(layer, x), first)
        with dv.counters(layer):  # who watches draws nothing from what is watched
            assert torch.equal(seeded_call(layer, x), first)
            second = layer(x)
        seeded_call(layer, x)
        assert torch.equal(layer(x), second)
    with pytest.raises(dv.DovetailError, match="anew at every call"):
        dv.fold_(layer)
    kept = emulated(nn.Linear(32, 8), x, input="int8", weight="int8(rounding=TowardZero)")
    with torch.no_grad():
        before = kept(x)
        kept.weight.mul_(-1.0)
        assert not torch.equal(kept(x), before)


def test_folding_a_directed_weight():
    x = randn(8, 32)
    layer = build(0, lambda: nn.Linear(32, 8))
    emulated(layer, x, input="int8", weight="int8(po2, rounding=TowardZero)")
    with torch.no_grad():
        before = layer(x)
        dv.fold_(layer)
        assert torch.equal(layer(x), before)
    other = build(0, lambda: nn.Linear(32, 8))
    emulated(other, x, input="int8", weight="int8(rounding=TowardZero)")
    with pytest.raises(dv.DovetailError, match="round the folded values once more"):
        dv.fold_(other)  # multiples of a scale that is rounded itself


def test_an_op_alone_refuses_to_draw():
    from dovetail.arithmetic import Arithmetic
    from dovetail.kernels import library

    drawn = dv.format("int8(rounding=Stochastic(8))")
    for given in (Arithmetic(drawn, dv.format("int8")), Arithmetic(dv.format("int8"), drawn)):
        with pytest.raises(dv.DovetailError, match="seed"):
            library.linear(randn(2, 4), randn(3, 4), None, *[None] * 4, given.spelling)


def test_plans_and_files_say_it(tmp_path):
    net, x = nn.Linear(8, 2), randn(1, 8)
    recipe = dv.Recipe(
        dv.rule("*", input="int8(rounding=TowardZero)", weight="uint8(rounding=ToOdd)")
    )
    assert "int8(rounding=TowardZero)" in str(dv.plan(net, recipe, x))
    recipe.save(tmp_path / "r.yaml")
    assert dv.Recipe.load(tmp_path / "r.yaml").rules[0].fields == recipe.rules[0].fields
    dv.apply_(net, recipe, x)
    again = nn.Linear(8, 2)
    again.load_state_dict(net.state_dict())
    dv.load_state(again, dv.state(net))
    assert torch.equal(again(x), net(x))


@pytest.mark.parametrize("mode", ["ToOdd", "Stochastic(8)"])
def test_wide_codes_of_half_precision_operands(mode):
    """Their multiples of the scale have more bits than the operands."""
    name = f"int16(dynamic, rounding={mode})"
    half = build(0, lambda: nn.Linear(16, 4)).to(torch.bfloat16)
    full = copy.deepcopy(half).float()
    x = randn(3, 16).to(torch.bfloat16)
    fields = {"input": name, "weight": f"int16(rounding={mode})"}
    with torch.no_grad():
        y = seeded_call(emulated(full, x.float(), **fields), x.float())
        assert torch.equal(seeded_call(emulated(half, x, **fields), x), y.to(torch.bfloat16))


@pytest.mark.parametrize("mode", ["ToOdd", "Stochastic(8)"])
@pytest.mark.parametrize("grad", ["ste(unclipped)", "lut1d"])
def test_other_gradients_are_the_same_under_func(mode, grad):
    name = f"int8(rounding={mode})"
    net = build(0, lambda: nn.Sequential(nn.Linear(16, 8), nn.ReLU(), nn.Linear(8, 4)))
    x = randn(5, 16)
    emulated(net, x, input=name, weight=name, mul="mul8s_1KV9", grad=grad)
    seeded_call(lambda: net(x).square().sum().backward())
    weights = {key: value.detach() for key, value in net.named_parameters()}

    def loss(given):
        return torch.func.functional_call(net, given, x).square().sum()

    found = seeded_call(torch.func.grad(loss), weights)
    for key, value in net.named_parameters():
        torch.testing.assert_close(found[key], value.grad)
