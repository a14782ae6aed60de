"""Rules with a floating-point multiplier, in every way a model is run."""

from __future__ import annotations

import pytest
import torch
import torch.nn.functional as F
from torch import nn

import dovetail as dv
from dovetail.analysis.layers import layers
from dovetail.arithmetic import Arithmetic
from dovetail.emulation import counters
from dovetail.emulation.taps import tap
from dovetail.errors import DovetailError
from dovetail.kernels import float_mac
from dovetail.kernels.geometry import LINEAR, Geometry
from dovetail.multipliers import any_multiplier
from dovetail.recipe.schema import loads
from helpers import build, randn

LMUL = {"input": "bf16", "weight": "bf16", "mul": "l_mul(format='bf16')"}
M = any_multiplier(LMUL["mul"])


def emulated(model: nn.Module, x, **more):
    model = model.eval()
    return dv.apply_(model, dv.Recipe(dv.rule("*", **(LMUL | more))), x)


def make() -> nn.Module:
    return nn.Sequential(
        nn.Conv2d(3, 4, 3, padding=1),
        nn.ConvTranspose2d(4, 2, 3, stride=2),
        nn.Flatten(),
        nn.Linear(162, 5),
    )


def cast(x):
    return dv.cast(x, "bf16")


def by_hand(model: nn.Module, x):
    conv, up, _, fc = model
    weights = {m: cast(m.weight.detach()) for m in (conv, up, fc)}
    y = float_mac.emulate(cast(x), weights[conv], conv.bias, M, None, Geometry.conv(2, padding=1))
    spread = torch.zeros(x.shape[0], 4, 2 * y.shape[2] - 1, 2 * y.shape[3] - 1)
    spread[..., ::2, ::2] = cast(y)
    flipped = weights[up].transpose(0, 1).flip(2, 3)
    y = float_mac.emulate(spread, flipped, up.bias, M, None, Geometry.conv(2, padding=2))
    return float_mac.emulate(cast(y.flatten(1)), weights[fc], fc.bias, M, None, LINEAR)


def test_layers():
    model, x = build(0, make), randn(2, 3, 4, 4)
    expected = by_hand(model, x)
    plan = emulated(model, x)
    assert plan["0"].arithmetic.describe()["mul"] == "l_mul(offset=4, format=bf16)"
    assert "l_mul(offset=4, format=bf16)" in str(plan)
    with torch.no_grad():
        assert torch.equal(model(x), expected)
        assert torch.equal(model(x), expected)  # with the packed weights
        assert torch.equal(torch.compile(model, backend="aot_eager")(x), expected)
        model[3].weight.mul_(2)
        assert not torch.equal(model(x), expected)
        model[3].weight.mul_(0.5)
        assert torch.equal(model(x), expected)
    assert torch.equal(model(x), expected)


def test_gradient_is_that_of_the_exact_product():
    model, x = build(0, make), randn(2, 3, 4, 4)
    emulated(model, x)
    parameters = dict(model.named_parameters())
    model(x).square().sum().backward()

    def loss(p):
        return torch.func.functional_call(model, p, (x,)).square().sum()

    grads = torch.func.grad(loss)(parameters)
    for name, parameter in parameters.items():
        torch.testing.assert_close(grads[name], parameter.grad)
    y, fc = model[:3](x), model[3]
    out = fc(y)
    grad = torch.autograd.grad(out.sum(), [fc.weight, y])
    weight = fc.weight.detach().clone().requires_grad_()
    inner = y.detach().clone().requires_grad_()
    exact = F.linear(dv.cast(inner, "bf16"), dv.cast(weight, "bf16"), fc.bias)
    for got, want in zip(grad, torch.autograd.grad(exact.sum(), [weight, inner]), strict=True):
        torch.testing.assert_close(got, want)


class Attention(nn.Module):
    def __init__(self) -> None:
        super().__init__()
        self.qkv = nn.Linear(8, 24, bias=False)
        self.lstm = nn.LSTM(8, 6, batch_first=True)

    def forward(self, x):
        q, k, v = self.qkv(x).reshape(*x.shape[:2], 3, 2, 4).permute(2, 0, 3, 1, 4)
        y = F.scaled_dot_product_attention(q, k, v)
        return self.lstm(y.transpose(1, 2).flatten(2))[0]


def test_attention_and_lstm():
    model, x = build(1, Attention), randn(2, 5, 8)
    plan = emulated(model, x)
    assert {op.kind for op in plan} == {"linear", "matmul"}
    seen = []

    def compare(op, call):
        operands = cast(call.x), cast(call.weight)
        if op.kind == "matmul":
            expected = float_mac.matmul(*operands, M, None)
        else:
            expected = float_mac.emulate(*operands, call.bias, M, None, LINEAR)
        assert torch.equal(call.output, expected)
        assert bool(call.x.any()) != torch.equal(call.output, call.exact())
        seen.append(op.key)

    with torch.no_grad(), tap(model, compare):
        model(x)
    assert sum("lstm" in key for key in seen) == 6
    assert sum(":matmul" in key for key in seen) == 2


def test_accumulators_and_their_counters():
    model, x = build(2, lambda: nn.Linear(64, 3, bias=False)), torch.full((1, 64), 48.0)
    nn.init.constant_(model.weight, 16.0)
    emulated(model, x, acc="fp16")
    with torch.no_grad():
        # 48 * 16 by L-Mul: 2**9 * (1 + 1/2 + 1/16) = 800, and 64 of these are 51200.
        assert model(x).tolist() == [[51200.0] * 3]
        x = torch.full((1, 64), 96.0)
        assert model(x).isinf().all()
        with counters(model) as found:
            model(x)
    assert found["."].overflows > 0
    assert found["."].outputs == found["."].overflowed == 3


def test_narrower_operands_and_exact_products():
    x, layer = randn(3, 16), build(3, lambda: nn.Linear(16, 4))
    plain = F.linear(dv.cast(x, "fp8_e5m2"), dv.cast(layer.weight, "fp8_e4m3fn"), layer.bias)
    emulated(layer, x, input="fp8_e5m2", weight="fp8_e4m3fn", mul="exact(format=bf16)")
    torch.testing.assert_close(layer(x), plain)


def test_reports():
    model, x = build(0, make), randn(2, 3, 4, 4)
    emulated(model, x)
    row = layers(model, x)["3"]
    assert row.arithmetic == "bf16 × bf16 by l_mul(offset=4, format=bf16)"
    assert row.changed is None
    assert row.energy is None
    assert 10 < row.isolated_db < 40


def test_yaml():
    text = """
dovetail: 1
model: {builtin: digits-cnn}
rules:
  - {match: "*", input: bf16, weight: bf16, mul: l_mul(format=bf16), acc: fp32}
"""
    assert loads(text).recipe.rules[0].fields["mul"] == M


def test_spelling():
    a = Arithmetic(input=dv.format("bf16"), weight=dv.format("bf16"), mul=M)
    assert Arithmetic.parse(a.spelling) == a
    assert not a.multiplies_codes
    with pytest.raises(DovetailError, match="multiplies floating-point numbers, not codes"):
        _ = a.code_multiplier


@pytest.mark.parametrize(
    ("fields", "message"),
    [
        ({"input": "int8"}, "input=int8: mul=l_mul.* multiplies values of 'bf16'"),
        ({"weight": "fp16"}, "weight=fp16: mul=l_mul.* give the weight that format"),
        ({"weight": "exact"}, "weight=exact: mul=l_mul"),
        ({"input": "mxfp8_e4m3"}, "input=mxfp8_e4m3: mul"),
        ({"acc": "int32"}, "acc=int32"),
        ({"mul": "drum(k=6)"}, "or name the floating-point format"),
    ],
)
def test_refusals(fields, message):
    model, x = nn.Linear(4, 4), torch.ones(1, 4)
    with pytest.raises(DovetailError, match=message):
        emulated(model, x, **fields)
