"""Approximations under torch.compile and torch.export: one graph, the same bits."""

from __future__ import annotations

import pytest
import torch
import torch.nn.functional as F
from torch import nn

import dovetail as dv
from helpers import build, randn


@pytest.fixture(autouse=True)
def afresh():
    """What other tests had torch compile counts towards its limit."""
    torch._dynamo.reset()
    yield
    torch._dynamo.reset()


class Block(nn.Module):
    """A little of everything that can be approximated."""

    def __init__(self) -> None:
        super().__init__()
        self.norm, self.rms = nn.LayerNorm(8), nn.RMSNorm(8, eps=1e-5)
        self.fc = nn.Linear(8, 8)

    def forward(self, x):
        h = self.norm(x)
        h = x + F.scaled_dot_product_attention(h, h, h)
        h = h + F.gelu(self.fc(self.rms(h))) + F.silu(h) + torch.sigmoid(h) * torch.tanh(h)
        h = h + torch.exp(-h.square()) + torch.rsqrt(1 + h.square())
        return h + torch.reciprocal(1 + h.square()) + h.sin() * h.cos()


RECIPES = {
    "mixed": [
        dv.rule(op="softmax", fn="softmax(exp=poly2(fp16), reciprocal=newton(1, fp16), clamp=-16)"),
        dv.rule(op="layer_norm", fn="norm(rsqrt=newton(1, fp16), format=fp16, acc=fp32)"),
        dv.rule(op="rms_norm", fn="isqrt(12)"),
        dv.rule(op="gelu", fn="pwl(16, fixed(16, 12))"),
        dv.rule(op="silu", fn="table(256, int8)"),
        dv.rule(op="sigmoid tanh", fn="poly3(bf16)"),
        dv.rule(op="exp", fn="ibert"),
        dv.rule(op="rsqrt reciprocal", fn="newton(1)"),
        dv.rule(op="rotary", fn="table(64)"),
    ],
    "polynomials": [
        dv.rule(op="softmax layer_norm rms_norm gelu silu sigmoid tanh exp", fn="poly3"),
        dv.rule(op="rsqrt reciprocal rotary", fn="poly4(fp32)"),
    ],
}


def emulated(make, rules):
    model, x = build(0, make), randn(2, 5, 8)
    dv.apply_(model, dv.Recipe(*rules), x)
    return model, x


def small():
    return nn.Sequential(nn.LayerNorm(8), nn.GELU(), nn.Sigmoid(), nn.Softmax(-1))


SMALL = [
    dv.rule(op="layer_norm", fn="newton(1)"),
    dv.rule(op="gelu", fn="pwl(16)"),
    dv.rule(op="sigmoid", fn="table(256, int8)"),
    dv.rule(op="softmax", fn="softmax(exp=poly2, reciprocal=table(64))"),
]


def same_compiled(model, x, **options):
    with torch.no_grad():
        compiled = torch.compile(model, fullgraph=True, **options)
        assert torch.equal(compiled(x), model(x))
        assert torch.equal(compiled(2 * x), model(2 * x))


def same_exported(model, x):
    with torch.no_grad():
        program = torch.export.export(model, (x,)).module()
        assert torch.equal(program(x), model(x))
        assert torch.equal(program(3 * x), model(3 * x))


def test_compiled_without_a_break():
    same_compiled(*emulated(small, SMALL), backend="aot_eager")


def test_compiled_with_gradients():
    model, x = emulated(small, SMALL[1:3])
    ours, theirs = (x.clone().requires_grad_() for _ in range(2))
    torch.compile(model, fullgraph=True, backend="aot_eager")(ours).square().sum().backward()
    model(theirs).square().sum().backward()
    torch.testing.assert_close(ours.grad, theirs.grad)


def test_exported():
    same_exported(*emulated(small, SMALL))


@pytest.mark.slow
@pytest.mark.parametrize("name", RECIPES)
@pytest.mark.parametrize("backend", ["aot_eager", "inductor"])
def test_everything_compiled(name, backend):
    same_compiled(*emulated(Block, RECIPES[name]), backend=backend)


@pytest.mark.slow
@pytest.mark.parametrize("name", RECIPES)
def test_everything_exported(name):
    same_exported(*emulated(Block, RECIPES[name]))
