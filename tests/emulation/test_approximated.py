"""Approximated functions inside models: found by their rules, refused where they do not suit."""

from __future__ import annotations

import copy
import pickle

import pytest
import torch
import torch.nn.functional as F
from torch import nn

import dovetail as dv
from dovetail.approximations import approximation
from helpers import build, hits, randn

KINDS = {
    "gelu": (nn.GELU(), "pwl(16)"),
    "silu": (nn.SiLU(), "table(256, int8)"),
    "sigmoid": (nn.Sigmoid(), "poly3(fp16)"),
    "tanh": (nn.Tanh(), "poly2"),
    "softmax": (nn.Softmax(-1), "poly2(fp16)"),
    "layer_norm": (nn.LayerNorm(6), "newton(1, fp16)"),
    "rms_norm": (nn.RMSNorm(6), "norm(rsqrt=isqrt(12), scale=0.5)"),
}


class Attention(nn.Module):
    """Scores, softmax and mask inside one call."""

    def forward(self, q, mask=None):
        return F.scaled_dot_product_attention(q, q, q, attn_mask=mask)


@pytest.mark.parametrize("kind", KINDS)
def test_a_rule_puts_the_approximation_in(kind):
    layer, fn = KINDS[kind]
    model, x = nn.Sequential(copy.deepcopy(layer)), 2 * randn(4, 6)
    plain = model(x).detach()
    plan = dv.apply_(model, dv.Recipe(dv.rule(op=kind, fn=fn)), x)
    assert plan["0"].arithmetic.fn == approximation(fn)
    assert str(approximation(fn)) in plan.table()
    operands = {"input": x, **{n: p.detach() for n, p in model[0].named_parameters()}}
    attributes = {"normalized_shape": (6,), "eps": getattr(layer, "eps", None), "dim": -1}
    with torch.no_grad():
        assert torch.equal(model(x), approximation(fn).compute(kind, operands, attributes))
        for other in (copy.deepcopy(model), pickle.loads(pickle.dumps(model))):
            assert torch.equal(other(x), model(x))
    torch.testing.assert_close(model(x).detach(), plain, rtol=0, atol=0.1)
    dv.remove_(model)
    assert torch.equal(model(x).detach(), plain)


def test_it_stands_between_the_casts():
    model, x = nn.Sequential(nn.GELU()), randn(4, 6)
    rule = dv.rule(op="gelu", input="fp8_e4m3", output="bf16", fn="poly2")
    dv.apply_(model, dv.Recipe(rule), x)
    inner = approximation("poly2").compute("gelu", {"input": dv.cast(x, "fp8_e4m3")}, {})
    assert torch.equal(model(x), dv.cast(inner, "bf16"))


def test_the_last_rule_wins_and_exact_undoes_it():
    model, x = nn.Sequential(nn.GELU(), nn.GELU()), randn(4, 6)
    rules = (dv.rule(op="gelu", fn="poly2"), dv.rule("1", op="gelu", fn="exact"))
    assert [op.key for op in dv.plan(model, dv.Recipe(*rules), x)] == ["0"]


@pytest.mark.parametrize(
    ("rule", "message"),
    [
        ({"op": "gelu", "fn": "newton(1)"}, "0 (rule 1): fn=newton does not suit gelu: it comp"),
        ({"op": "relu", "fn": "pwl(16)"}, "sets fn, which relu has not: '1' takes input, output"),
        ({"op": "linear", "fn": "pwl(16)"}, "sets fn, which linear has not"),
        ({"op": "softmax", "fn": "pwl(16, domain=(-8, 8))"}, "exp has no domain to choose"),
        ({"op": "softmax", "fn": "norm()"}, "fn=norm does not suit softmax: it computes layer_n"),
    ],
)
def test_the_plan_refuses_what_does_not_suit(rule, message):
    model = nn.Sequential(nn.GELU(), nn.ReLU(), nn.Softmax(-1), nn.Linear(6, 6))
    with pytest.raises(dv.DovetailError) as raised:
        dv.plan(model, dv.Recipe(dv.rule(**rule)), randn(4, 6))
    assert message in str(raised.value)


def test_softmax_inside_attention():
    model, q = Attention(), randn(2, 2, 5, 4)
    mask = torch.ones(5, 5, dtype=torch.bool).tril()
    plain = model(q, mask)
    rule = dv.rule(op="softmax", input="fp16", fn="poly2(fp16, grad=exact)")
    plan = dv.apply_(model, dv.Recipe(rule), (q, mask))
    assert [op.key for op in plan] == [".:softmax"]
    y = model(q, mask)
    assert hits(model, q, mask) == [".:softmax"]
    torch.testing.assert_close(y, plain, rtol=0, atol=0.01)
    assert not torch.equal(y, plain)
    changed = q.clone()
    changed[..., -1, :] += 100.0  # the mask hides it from every query but the last
    assert torch.equal(model(changed, mask)[..., :-1, :], y[..., :-1, :])


def test_functional_calls_that_write_out_a_norm_or_rotary_embedding():
    class Llama(nn.Module):
        def forward(self, x):
            x = x * torch.rsqrt(x.pow(2).mean(-1, keepdim=True) + 1e-6)
            return x * x.cos() + x.flip(-1) * x.sin()

    model, x = Llama(), randn(4, 6)
    plain = model(x)
    recipe = dv.Recipe(dv.rule(op="rsqrt", fn="newton(2)"), dv.rule(op="rotary", fn="table(1024)"))
    plan = dv.apply_(model, recipe, x)
    assert [op.key for op in plan] == [".:rsqrt", ".:cos", ".:sin"]
    torch.testing.assert_close(model(x), plain, rtol=0, atol=0.02)
    assert not torch.equal(model(x), plain)


def test_in_place_calls_write_the_approximation():
    model, x = nn.Sequential(nn.SiLU(inplace=True)), randn(3, 4)
    dv.apply_(model, dv.Recipe(dv.rule(op="silu", fn="poly2")), x.clone())
    given = x.clone()
    assert model(given) is given
    assert torch.equal(given, approximation("poly2").compute("silu", {"input": x}, {}))


@pytest.mark.parametrize("kind", KINDS)
def test_the_gradient_is_the_exact_functions(kind):
    layer, fn = KINDS[kind]
    model, x = nn.Sequential(build(0, lambda: copy.deepcopy(layer))), randn(4, 6)
    theirs = x.clone().requires_grad_()
    model(theirs).square().mean().backward()
    exact = {n: p.grad for n, p in model.named_parameters()}
    plain = model(x).detach()
    dv.apply_(model, dv.Recipe(dv.rule(op=kind, fn=fn)), x)
    model.zero_grad()
    ours = x.clone().requires_grad_()
    y = model(ours)
    with torch.no_grad():
        assert torch.equal(y, model(x))
    y.backward(2 * plain / plain.numel())
    torch.testing.assert_close(ours.grad, theirs.grad)
    for n, p in model.named_parameters():
        torch.testing.assert_close(p.grad, exact[n])


def test_gradients_under_torch_func():
    model, x = nn.Sequential(nn.GELU(), nn.Softmax(-1)), randn(3, 4)
    recipe = dv.Recipe(dv.rule(op="gelu", fn="pwl(16)"), dv.rule(op="softmax", fn="poly2"))
    dv.apply_(model, recipe, x)
    given = x.clone().requires_grad_()
    model(given)[:, 0].sum().backward()
    ours = torch.func.grad(lambda t: model(t)[:, 0].sum())(x)
    assert torch.equal(ours, given.grad)
    assert torch.equal(torch.func.vmap(model)(x), model(x))


def test_recipes_and_files_keep_it(tmp_path):
    recipe = dv.Recipe(dv.rule(op="gelu", fn="pwl(16, fixed(16, 12), domain=(-8, 8))"))
    recipe.save(tmp_path / "r.yaml")
    assert dv.Recipe.load(tmp_path / "r.yaml") == recipe
    arithmetic = recipe.rules[0].fields
    assert dv.Arithmetic.parse(dv.Arithmetic(**arithmetic).spelling) == dv.Arithmetic(**arithmetic)


def test_errors_are_approximate_minus_exact_of_every_call():
    model, x = nn.Sequential(nn.GELU(), nn.Linear(6, 6), nn.LayerNorm(6)), randn(4, 6)
    recipe = dv.Recipe(
        dv.rule(op="gelu", input="fp8_e4m3", output="fp8_e4m3", fn="poly2"),
        dv.rule(op="layer_norm", fn="newton(1)"),
    )
    dv.apply_(model, recipe, x)
    before = model(x)
    with dv.approximation_errors(model) as errors:
        assert torch.equal(model(x), before)
        model(2 * x)
    assert list(errors) == ["0", "2"]
    assert [len(calls) for calls in errors.values()] == [2, 2]
    seen = dv.cast(2 * x, "fp8_e4m3")
    wanted = approximation("poly2").compute("gelu", {"input": seen}, {}) - F.gelu(seen)
    assert torch.equal(errors["0"][1], wanted)
    assert not errors["2"][0].requires_grad
    model(x)
    assert len(errors["0"]) == 2


def test_errors_of_in_place_and_masked_calls():
    model, q = Attention(), randn(1, 1, 4, 4)
    mask = torch.ones(4, 4, dtype=torch.bool).tril()
    dv.apply_(model, dv.Recipe(dv.rule(op="softmax", fn="base2")), (q, mask))
    with dv.approximation_errors(model) as errors:
        model(q, mask)
    assert (errors[".:softmax"][0][0, 0].triu(1) == 0).all()
    assert 0 < errors[".:softmax"][0].abs().max() < 0.03
    model, x = nn.Sequential(nn.SiLU(inplace=True)), randn(3, 4)
    dv.apply_(model, dv.Recipe(dv.rule(op="silu", fn="poly2")), x.clone())
    with dv.approximation_errors(model) as errors:
        y = model(x.clone())
    assert torch.equal(errors["0"][0], y - F.silu(x))


def test_errors_need_an_approximation():
    model, x = nn.Sequential(nn.GELU()), randn(2, 3)
    with pytest.raises(dv.DovetailError, match="is not emulated"), dv.approximation_errors(model):
        pass
    dv.apply_(model, dv.Recipe(dv.rule(op="gelu", input="fp16")), x)
    with pytest.raises(dv.DovetailError, match="no operation"), dv.approximation_errors(model):
        pass
