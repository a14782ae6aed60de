"""Classes of a user's own as one operation, and rotary functions behind decorators."""

from __future__ import annotations

import copy
import functools
import pickle

import pytest
import torch
import torch.nn.functional as F
from torch import nn

import dovetail as dv
from helpers import build, hits, randn


class Normed(nn.Module):
    """What a fused kernel would compute."""

    def __init__(self):
        super().__init__()
        self.weight = nn.Parameter(randn(8, seed=1))
        self.bias = nn.Parameter(randn(8, seed=2))
        self.eps = 1e-5

    def forward(self, hidden):
        x = hidden - hidden.mean(-1, keepdim=True)
        return x * (x.square().mean(-1, keepdim=True) + self.eps).rsqrt() * self.weight + self.bias


@dv.register_operator("layer_norm")
class FusedNorm(Normed):
    forward = Normed.forward


class Derived(FusedNorm):
    """The same operation."""


class Overriding(FusedNorm):
    """An operation of its own: what it calls is seen."""

    def forward(self, hidden):
        return torch.tanh(super().forward(hidden))


X = randn(3, 8)
RULE = {"input": "fp8_e4m3", "weight": "bf16", "bias": "fp16", "output": "bf16"}


@pytest.mark.parametrize("cls", [FusedNorm, Derived])
def test_a_registered_class_is_one_operation(cls):
    model = nn.Sequential(cls())
    dv.apply_(model, dv.Recipe(dv.rule(op="layer_norm", **RULE)), X)
    assert hits(model, X) == ["0"]
    twin = Normed()
    with torch.no_grad():
        twin.weight.copy_(dv.cast(twin.weight, "bf16"))
        twin.bias.copy_(dv.cast(twin.bias, "fp16"))
    wanted = dv.cast(twin(dv.cast(X, "fp8_e4m3")), "bf16")
    for each in (model, copy.deepcopy(model), pickle.loads(pickle.dumps(model))):
        assert torch.equal(each(X), wanted)
    model(X).sum().backward()
    assert model[0].bias.grad is not None
    assert torch.equal(torch.compile(model, backend="aot_eager", fullgraph=True)(X), wanted)
    dv.remove_(model)
    assert torch.equal(model(X), Normed()(X))


def test_approximated_as_torch_s_own():
    model, plain = nn.Sequential(FusedNorm()), nn.LayerNorm(8)
    plain.load_state_dict(model[0].state_dict())
    for each in (model, plain):
        dv.apply_(each, dv.Recipe(dv.rule(op="layer_norm", fn="newton(2)")), X)
    assert torch.equal(model(X), plain(X))


def test_a_class_that_computes_something_else_takes_formats_only():
    @dv.register_operator("silu")
    class Doubled(nn.Module):
        def forward(self, x):
            return 2 * F.silu(x)

    model = nn.Sequential(Doubled())
    assert len(dv.plan(model, dv.Recipe(dv.rule(op="silu", output="bf16")), X)) == 1
    with pytest.raises(dv.DovetailError, match=r"torch's silu .* Doubled computes another"):
        dv.plan(model, dv.Recipe(dv.rule(op="silu", fn="pwl(8)")), X)


def test_a_derived_forward_is_not_the_registered_one():
    model = nn.Sequential(Overriding())
    assert "0" not in [
        op.key for op in dv.plan(model, dv.Recipe(dv.rule(op="*", output="bf16")), X)
    ]


def test_a_class_registered_after_it_was_emulated_is_one_operation_from_then_on():
    class Late(nn.Module):
        def forward(self, x):
            return x * torch.sigmoid(x)

    model, recipe = nn.Sequential(Late()), dv.Recipe(dv.rule(op="*", output="bf16"))
    assert [op.key for op in dv.apply_(model, recipe, X)] == ["0:sigmoid", "0:mul"]
    dv.remove_(model)
    dv.register_operator("silu")(Late)
    assert [op.key for op in dv.apply_(model, recipe, X)] == ["0"]
    assert torch.equal(model(X), dv.cast(X * torch.sigmoid(X), "bf16"))


def test_what_cannot_be_registered():
    with pytest.raises(dv.DovetailError, match="did you mean 'layer_norm'"):
        dv.register_operator("layernorm")
    with pytest.raises(dv.DovetailError, match="forward of Bilinear takes input1, input2; that of"):
        dv.register_operator("gelu")(nn.Bilinear)


def rotate_half(x):
    first, second = x.chunk(2, -1)
    return torch.cat((-second, first), -1)


def apply_rotary_pos_emb(q, k, cos, sin):
    return q * cos + rotate_half(q) * sin, k * cos + rotate_half(k) * sin


def decorated(function):
    names = ("x", "cos", "sin")

    @functools.wraps(function)
    def wrapped(self, *args, **kwargs):
        assert set(kwargs) <= set(names)
        return function(self, *args, **kwargs)

    return wrapped


class Plain(nn.Module):
    def __init__(self):
        super().__init__()
        self.q, self.k = nn.Linear(8, 8), nn.Linear(8, 8)

    def forward(self, x, cos, sin):
        q, k = apply_rotary_pos_emb(self.q(x), self.k(x), cos, sin)
        return q @ k.mT


class Decorated(Plain):
    @decorated
    @decorated
    def forward(self, x, cos, sin):
        q, k = apply_rotary_pos_emb(self.q(x), self.k(x), cos, sin)
        return q @ k.mT


@dv.register_operator("rotate")
class Rotary(nn.Module):
    def forward(self, q, k, cos, sin):
        return apply_rotary_pos_emb(q, k, cos, sin)


class Modular(Plain):
    def __init__(self):
        super().__init__()
        self.turn = Rotary()

    def forward(self, x, cos, sin):
        q, k = self.turn(self.q(x), self.k(x), cos, sin)
        return q @ k.mT


ANGLES = randn(5, 8, seed=3)
ROWS = (randn(2, 5, 8), ANGLES.cos(), ANGLES.sin())
TURN = {"input": "bfp(m=6, block=4)", "other": "fp8_e4m3", "output": "bf16"}


@pytest.mark.parametrize(("cls", "place"), [(Decorated, "."), (Modular, "turn")])
def test_rotary_is_reached_through_decorators_and_as_a_module(cls, place):
    model, plain = build(0, cls), build(0, Plain)
    before = model(*ROWS)
    for each in (model, plain):
        dv.apply_(each, dv.Recipe(dv.rule(op="rotate", **TURN)), ROWS)
    wanted = plain(*ROWS)
    assert hits(model, *ROWS) == [f"{place}:rotate_0", f"{place}:rotate_1"]
    assert torch.equal(model(*ROWS), wanted)
    assert not torch.equal(wanted, before)
    assert torch.equal(copy.deepcopy(model)(*ROWS), wanted)
    dv.remove_(model)
    assert torch.equal(model(*ROWS), before)


@pytest.mark.parametrize("cls", [Decorated, Modular])
def test_rotary_compiled(cls):
    model = build(0, cls)
    dv.apply_(model, dv.Recipe(dv.rule(op="rotate", **TURN)), ROWS)
    wanted = model(*ROWS)
    compiled = torch.compile(model, backend="aot_eager", fullgraph=True)
    assert torch.equal(compiled(*ROWS), wanted)


def test_one_turned_by_itself():
    model = build(0, Modular)
    dv.apply_(model, dv.Recipe(dv.rule("turn:rotate_1", output="bf16")), ROWS)
    assert hits(model, *ROWS) == ["turn:rotate_1"]
