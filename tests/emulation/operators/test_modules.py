"""Modules written out in tensor arithmetic, and the rotary function: one operation each."""

from __future__ import annotations

import copy
import math
import pickle

import pytest
import torch
from torch import nn

import dovetail as dv
from dovetail.emulation import exact, tap
from helpers import INT8, build, hits, modes, randn


class LlamaRMSNorm(nn.Module):
    def __init__(self, size, eps=1e-6):
        super().__init__()
        self.weight = nn.Parameter(randn(size, seed=7))
        self.variance_epsilon = eps

    def forward(self, hidden_states):
        variance = hidden_states.pow(2).mean(-1, keepdim=True)
        return self.weight * (hidden_states * torch.rsqrt(variance + self.variance_epsilon))


class GemmaRMSNorm(nn.Module):
    """With a method of its own that uses the weight."""

    def __init__(self, dim):
        super().__init__()
        self.weight = nn.Parameter(randn(dim, seed=7))

    def scaled(self, x):
        return x * (1.0 + self.weight)

    def forward(self, x):
        return self.scaled(x * torch.rsqrt(x.pow(2).mean(-1, keepdim=True)))


class UnweightedRMSNorm(nn.Module):
    def forward(self, x):
        return x * torch.rsqrt(x.pow(2).mean(-1, keepdim=True))


class T5LayerNorm(LlamaRMSNorm):
    pass


class NewGELUActivation(nn.Module):
    def forward(self, input):
        inner = math.sqrt(2.0 / math.pi) * (input + 0.044715 * torch.pow(input, 3.0))
        return 0.5 * input * (1.0 + torch.tanh(inner))


class QuickGELUActivation(nn.Module):
    def forward(self, input):
        return input * torch.sigmoid(1.702 * input)


class MambaRMSNormGated(nn.Module):
    def forward(self, x, gate):
        return x * gate


CASES = {
    "rms_norm": lambda: LlamaRMSNorm(6),
    "rms_norm-with-a-method": lambda: GemmaRMSNorm(6),
    "rms_norm-bare": UnweightedRMSNorm,
    "rms_norm-t5": lambda: T5LayerNorm(6),
    "gelu": NewGELUActivation,
    "quick_gelu": QuickGELUActivation,
}
X = randn(3, 4, 6)


@pytest.mark.parametrize("name", CASES)
def test_such_a_module_is_one_operation_cast_in_every_slot(name):
    model, kind = nn.Sequential(CASES[name]()), name.split("-")[0]
    plain = model(X)
    formats = {"input": "bfp(m=6, block=3)", "weight": "fp8_e4m3", "output": "bf16"}
    formats = {f: v for f, v in formats.items() if dv.kinds.KINDS[kind].takes(f)}
    plan = dv.plan(model, dv.Recipe(dv.rule(op="*", output="bf16")), X)
    assert [(op.key, op.kind) for op in plan] == [("0", kind)]
    dv.apply_(model, dv.Recipe(dv.rule(op=kind, **formats)), X)
    y = model(X)
    assert hits(model, X) == ["0"]
    assert modes() == 0
    with exact(model):
        assert torch.equal(model(X), plain)
    dv.remove_(model)
    assert torch.equal(model(X), plain)
    for parameter in model.parameters():
        parameter.data = dv.cast(parameter.data, "fp8_e4m3")
    assert torch.equal(y, dv.cast(model(dv.cast(X, "bfp(m=6, block=3)")), "bf16"))


@pytest.mark.parametrize("name", CASES)
def test_compiled_exported_copied(name):
    model = nn.Sequential(CASES[name](), nn.Linear(6, 6)).eval()
    kind = name.split("-")[0]
    dv.apply_(model, dv.Recipe(dv.rule(op=kind, input="fp8_e4m3", output="int8")), X)
    wanted = model(X)
    compiled = torch.compile(model, backend="aot_eager", fullgraph=True)
    assert torch.equal(compiled(X), wanted)
    for strict in (False, True):
        assert torch.equal(torch.export.export(model, (X,), strict=strict).module()(X), wanted)
    for other in (copy.deepcopy(model), pickle.loads(pickle.dumps(model))):
        assert torch.equal(other(X), wanted)


def test_gradients_of_input_and_weight():
    model, x = LlamaRMSNorm(6), X.clone().requires_grad_()
    dv.apply_(model, dv.Recipe(dv.rule(op="rms_norm", input="fp8_e5m2", weight="fp8_e5m2")), x)
    model(x).square().sum().backward()
    ours = (x.grad, model.weight.grad)
    dv.remove_(model)
    model.weight = nn.Parameter(dv.cast(model.weight.data, "fp8_e5m2"))
    theirs = dv.cast(X, "fp8_e5m2").requires_grad_()
    model(theirs).square().sum().backward()
    assert torch.equal(ours[0], theirs.grad)
    assert torch.equal(ours[1], model.weight.grad)


def test_what_is_inside_belongs_to_it():
    """The multiplications of a norm are no elementwise operations of the model."""

    class Twice(nn.Module):
        def __init__(self):
            super().__init__()
            self.norm = LlamaRMSNorm(6)

        def forward(self, x):
            return self.norm(x) * self.norm(x)

    plan = dv.plan(Twice(), dv.Recipe(dv.rule(op="*", output="bf16")), X)
    assert [(op.key, op.calls) for op in plan] == [("norm", 2), (".:mul", 1)]


def test_a_module_that_takes_more_is_what_it_calls():
    model = MambaRMSNormGated()
    assert [op.key for op in dv.plan(model, dv.Recipe(dv.rule(op="*", output="bf16")), (X, X))] == [
        ".:mul"
    ]


def test_torch_s_own_norms_are_read_as_functions():
    model = nn.RMSNorm(6)
    plan = dv.apply_(model, dv.Recipe(dv.rule(op="rms_norm", output="bf16")), X)
    assert [op.key for op in plan] == ["."]
    assert hits(model, X) == ["."]


@pytest.mark.parametrize(
    ("make", "same"),
    [
        (lambda: LlamaRMSNorm(6), lambda m: lambda x: nn.functional.rms_norm(x, (6,), m.weight)),
        (NewGELUActivation, lambda m: lambda x: nn.functional.gelu(x, approximate="tanh")),
    ],
)
def test_approximated_as_torch_s_own_function_is(make, same):
    fn = "newton" if make is not NewGELUActivation else "table(64)"
    model, other = nn.Sequential(make()), Calls(None)
    other.function = same(model[0])
    kind = "gelu" if make is NewGELUActivation else "rms_norm"
    for each in (model, other):
        dv.apply_(each, dv.Recipe(dv.rule(op=kind, fn=fn)), X)
    torch.testing.assert_close(model(X), other(X), rtol=1e-5, atol=1e-5)


@pytest.mark.parametrize("fn", ["newton(3)", "norm(rsqrt=pwl(8), format=fp16)"])
def test_a_norm_scaled_by_one_plus_its_weight(fn):
    """As Gemma's is: approximated like torch's with such a weight, and copied so."""
    model, plain = nn.Sequential(GemmaRMSNorm(6)), nn.RMSNorm(6, eps=0.0)
    plain.weight = nn.Parameter(1 + model[0].weight.detach().double())
    recipe = dv.Recipe(dv.rule(op="rms_norm", fn=fn))
    for each, x in ((model, X), (plain, X.double())):
        dv.apply_(each, recipe, x)
    model[0].eps = 0.0
    y = model(X)
    assert torch.equal(y, plain(X.double()).float())
    assert torch.equal(copy.deepcopy(model)(X), y)
    assert torch.equal(pickle.loads(pickle.dumps(model))(X), y)
    y.sum().backward()
    assert model[0].weight.grad.abs().sum() > 0


def test_a_norm_that_is_neither_is_not_approximated():
    class DoubledRMSNorm(GemmaRMSNorm):
        def scaled(self, x):
            return 2 * super().scaled(x)

    recipe = dv.Recipe(dv.rule(op="rms_norm", fn="newton"))
    with pytest.raises(
        dv.DovetailError, match=r"1 \+ weight\), and DoubledRMSNorm computes another"
    ):
        dv.plan(nn.Sequential(DoubledRMSNorm(6)), recipe, X)


class Calls(nn.Module):
    def __init__(self, function):
        super().__init__()
        self.function = function

    def forward(self, x):
        return self.function(x)


def rotate_half(x):
    first, second = x.chunk(2, -1)
    return torch.cat((-second, first), -1)


def apply_rotary_pos_emb(q, k, cos, sin, unsqueeze_dim=1):
    cos, sin = cos.unsqueeze(unsqueeze_dim), sin.unsqueeze(unsqueeze_dim)
    return q * cos + rotate_half(q) * sin, k * cos + rotate_half(k) * sin


class Attention(nn.Module):
    """As Hugging Face writes it: the function is found among the module's globals."""

    def __init__(self):
        super().__init__()
        self.q_proj, self.k_proj = nn.Linear(8, 8), nn.Linear(8, 4)

    def forward(self, x, cos, sin, *, times=1):
        q = self.q_proj(x).view(*x.shape[:-1], 2, 4).transpose(1, 2)
        k = self.k_proj(x).view(*x.shape[:-1], 1, 4).transpose(1, 2)
        q, k = apply_rotary_pos_emb(q, k, cos, sin)
        return (q @ k.mT).sum(1) * times


ANGLES = randn(1, 5, 4, seed=3)
ROWS = (randn(2, 5, 8), ANGLES.cos(), ANGLES.sin())
ROTARY = {"input": "bfp(m=6, block=4)", "other": "fp8_e4m3", "output": "bf16"}


def test_rotary_turns_query_and_key_as_two_operations():
    model = build(0, Attention).eval()
    plain = model(*ROWS)
    plan = dv.apply_(model, dv.Recipe(dv.rule(op="rotate", **ROTARY)), ROWS)
    assert [op.key for op in plan] == [".:rotate_0", ".:rotate_1"]
    assert [op.input_shape for op in plan] == [(2, 2, 5, 4), (2, 1, 5, 4)]
    seen = []
    with tap(model, lambda op, call: seen.append(call)):
        model(*ROWS)
    q, k = (dv.cast(call.operands["input"], ROTARY["input"]) for call in seen)
    cos, sin = (dv.cast(t, "fp8_e4m3") for t in ROWS[1:])
    wanted = apply_rotary_pos_emb(q, k, cos, sin)
    for call, one in zip(seen, wanted, strict=True):
        assert torch.equal(call.output, dv.cast(one, "bf16"))
    turned = [call.output for call in seen]
    assert torch.equal(model(*ROWS), (turned[0] @ turned[1].mT).sum(1))
    with exact(model):
        torch.testing.assert_close(model(*ROWS), plain)
    dv.remove_(model)
    assert torch.equal(model(*ROWS), plain)


def test_untouched_rotary_is_the_models_own_and_hides_what_it_calls():
    model = build(0, Attention).eval()
    plan = dv.plan(model, dv.Recipe(dv.rule(op="*", output="bf16")), ROWS)
    assert [op.kind for op in plan] == ["linear", "linear", "rotate", "rotate", "matmul"]
    plain = model(*ROWS)
    dv.apply_(model, dv.Recipe(dv.rule("q_proj", **INT8)), ROWS)
    emulated = model(*ROWS, times=2)
    assert not torch.equal(emulated, 2 * plain)
    with exact(model):
        assert torch.equal(model(*ROWS, times=2), 2 * plain)


def test_one_of_both_rotary_operations():
    model = build(0, Attention).eval()
    plan = dv.apply_(model, dv.Recipe(dv.rule(".:rotate_1", output="int8")), ROWS)
    assert plan.left_exact == ("q_proj", "k_proj", ".:rotate_0", ".:matmul")
    assert hits(model, *ROWS) == [".:rotate_1"]


def test_rotary_compiled_exported_copied_and_trained():
    model = build(0, Attention).eval()
    dv.apply_(model, dv.Recipe(dv.rule(op="rotate", **ROTARY | {"input": "int8"})), ROWS)
    wanted = model(*ROWS)
    compiled = torch.compile(model, backend="aot_eager", fullgraph=True)
    assert torch.equal(compiled(*ROWS), wanted)
    assert torch.equal(torch.export.export(model, ROWS).module()(*ROWS), wanted)
    for other in (copy.deepcopy(model), pickle.loads(pickle.dumps(model))):
        assert torch.equal(other(*ROWS), wanted)
    wanted.sum().backward()
    assert float(model.k_proj.weight.grad.abs().sum()) > 0


def test_globals_are_those_of_the_moment_of_apply(monkeypatch):
    model = build(0, Attention).eval()
    recipe = dv.Recipe(dv.rule(op="rotate", output="bf16"))
    dv.apply_(model, recipe, ROWS)
    dv.remove_(model)

    def still(q, k, cos, sin):
        return q, k

    monkeypatch.setitem(globals(), "apply_rotary_pos_emb", still)
    dv.apply_(model, recipe, ROWS)
    q, k = (layer(ROWS[0]) for layer in (model.q_proj, model.k_proj))
    q, k = (dv.cast(t.unflatten(-1, (-1, 4)).transpose(1, 2), "bf16") for t in (q, k))
    assert torch.equal(model(*ROWS), (q @ k.mT).sum(1))


@pytest.mark.parametrize("low", [-math.inf, torch.finfo(torch.float32).min])
def test_scores_that_a_mask_hides_are_exact_in_plain_operations(low):
    """As attention in eager form adds it: a block, or a range, would take the mask's size."""

    class Eager(nn.Module):
        def forward(self, scores, mask):
            return (scores + mask).softmax(-1)

    scores, mask = randn(2, 4, 8), torch.zeros(4, 8).masked_fill(torch.ones(4, 8).triu(1) > 0, low)
    model, fmt = Eager(), "bfp(m=6, block=8)"
    recipe = dv.Recipe(dv.rule(op="add softmax", input="int8", output=fmt, other="int8"))
    plan = dv.apply_(model, recipe, (scores, mask))
    assert [op.key for op in plan] == [".:add", ".:softmax"]
    assert float(model._dovetail_add_input_scale) == pytest.approx(float(scores.abs().max()) / 127)
    far = mask < 0
    seen = dv.cast(dv.cast(scores, "int8").masked_fill(far, 0.0), fmt).masked_fill(far, 0.0)
    scale = float(model._dovetail_softmax_input_scale)
    seen = dv.cast(seen, "int8", scale=scale).masked_fill(far, low)
    got = model(scores, mask)
    assert torch.equal(got, dv.cast(seen.softmax(-1), fmt))
    assert not got[:, far].any()
    compiled = torch.compile(model, backend="aot_eager", fullgraph=True)
    assert torch.equal(compiled(scores, mask), got)
