"""Operators that nothing compiles: refused with their layer, or called as in eager mode."""

from __future__ import annotations

import copy

import pytest
import torch
from torch import Tensor, nn

import dovetail as dv
from dovetail.compiler.layers import layers_of
from helpers import randn

pytest.importorskip("dace")


@torch.library.custom_op("ways_fallback::scaled", mutates_args=())
def scaled(x: Tensor, other: Tensor | None, factor: torch.types.Number) -> tuple[Tensor, Tensor]:
    """A Scalar has no C form, so no kernel can be called for it."""
    y = x * factor if other is None else x * factor + other
    return y, y.sum(-1)


@scaled.register_fake
def _(x, other, factor):
    return torch.empty_like(x), x.new_empty(x.shape[:-1])


def _setup(ctx, inputs, output):
    ctx.factor, ctx.other = inputs[2], inputs[1] is not None


def _backward(ctx, one, two):
    grad, _ = scaled(one + two.unsqueeze(-1), None, ctx.factor)
    return grad, one + two.unsqueeze(-1) if ctx.other else None, None


scaled.register_autograd(_backward, setup_context=_setup)


class Layer(nn.Module):
    def forward(self, x):
        first, sums = scaled(x, x * x, 3)
        second, _ = scaled(torch.relu(first), None, 0.5)
        return second + sums.unsqueeze(-1)


@pytest.fixture(scope="module")
def fast():
    torch.manual_seed(0)
    net = nn.Sequential(nn.Linear(4, 3), Layer(), nn.Linear(3, 2)).train()
    return net, dv.compile(copy.deepcopy(net), randn(5, 4), fallback=True)


def test_what_nothing_compiles_is_refused_with_its_layer():
    net = nn.Sequential(nn.Linear(4, 3), Layer()).eval()
    said = r"in layer 1: no lowering of ways_fallback.scaled.default .* fallback=True"
    with pytest.raises(dv.DovetailError, match=said):
        dv.compile(net, randn(2, 4))


def test_where_it_is_allowed_it_is_called_forward_and_backward(fast):
    net, compiled = fast
    x = randn(5, 4, seed=3)
    for model in (net, compiled):
        model.zero_grad()
        model(x).square().sum().backward()
    torch.testing.assert_close(compiled(x), net(x))
    for mine, other in zip(compiled.parameters(), net.parameters(), strict=True):
        torch.testing.assert_close(mine.grad, other.grad, rtol=1e-4, atol=1e-5)


def test_the_report_lists_it(fast):
    report = fast[1].report()
    assert {(where, key) for where, _, key in report.fallbacks} == {
        ("forward", "ways_fallback.scaled.default"),
        ("backward", "ways_fallback.scaled.default"),
    }
    assert report.capture.startswith("not kept: ")


def test_the_layers_of_an_operator_are_found_and_the_model_stays():
    net = nn.Sequential(nn.Linear(4, 4), nn.Sequential(nn.ReLU(), nn.Dropout(0.5)), nn.ReLU())
    state = torch.random.get_rng_state()
    assert layers_of(net, (randn(2, 4),), {}, "aten.relu.default") == ["1.0", "2"]
    assert layers_of(net, (randn(2, 4),), {}, "aten.tanh.default") == []
    assert not any(part._forward_hooks or part._forward_pre_hooks for part in net.modules())
    assert torch.equal(torch.random.get_rng_state(), state)


class Drawing(nn.Module):
    def __init__(self):
        super().__init__()
        self.own = torch.Generator().manual_seed(3)

    def forward(self, x):
        return x + torch.rand(x.shape, generator=self.own)


@pytest.mark.parametrize("fallback", [False, True])
def test_a_generator_of_its_own_is_refused(fallback):
    said = r"aten.rand.generator \(rand\) draws from a torch.Generator of its own"
    with pytest.raises(dv.DovetailError, match=said):
        dv.compile(Drawing().eval(), randn(3), fallback=fallback)
