"""Attention taken apart: torch's own result when exact, two products and projections for rules."""

from __future__ import annotations

import copy
import math
import pickle

import pytest
import torch
import torch.nn.functional as F
from torch import nn

import dovetail as dv
from dovetail.emulation import exact, tap
from dovetail.emulation.calls import Call
from dovetail.emulation.composites import Products
from dovetail.emulation.composites.attention import multi_head, scaled_dot_product
from dovetail.emulation.operators import OpCall
from helpers import INT8, build, randn

Q, K, V = randn(2, 3, 5, 4), randn(2, 3, 6, 4, seed=1), randn(2, 3, 6, 7, seed=2)
HIDES_ALL = torch.ones(5, 6, dtype=torch.bool)
HIDES_ALL[2] = False
MASKS = {
    "none": {},
    "bool": {"attn_mask": randn(5, 6, seed=3) > -0.5},
    "bool, a row that may look nowhere": {"attn_mask": HIDES_ALL},
    "bool per batch": {"attn_mask": randn(2, 1, 5, 6, seed=3) > -1},
    "float": {"attn_mask": 10 * randn(5, 6, seed=4)},
    "float with infinities": {"attn_mask": torch.where(HIDES_ALL, randn(5, 6), -math.inf)},
    "causal": {"is_causal": True},
    "scale": {"scale": 0.3},
    "dropout of nothing": {"dropout_p": 0.0},
}


class Exact(Products):
    """Every product as torch has it, and which ones were asked for."""

    def __init__(self) -> None:
        self.asked: list[tuple[str, int]] = []

    def perform(self, index: int, call: Call | OpCall) -> torch.Tensor:
        self.asked.append((call.kind, index))
        return call.exact()


class Attend(nn.Module):
    def __init__(self, **options) -> None:
        super().__init__()
        self.options = options

    def forward(self, q, k, v):
        return F.scaled_dot_product_attention(q, k, v, **self.options)


@pytest.mark.parametrize("options", MASKS.values(), ids=MASKS)
def test_exact_products_give_what_torch_gives(options):
    products = Exact()
    unfused = scaled_dot_product(Q, K, V, **options)
    got = unfused.run(products)
    torch.testing.assert_close(got, F.scaled_dot_product_attention(Q, K, V, **options))
    counted = [(kind, i) for kind, n in unfused.counts.items() for i in range(n)]
    assert sorted(products.asked) == sorted(counted)


def test_grouped_queries():
    q, k, v = randn(2, 6, 5, 4), randn(2, 3, 5, 4, seed=1), randn(2, 2, 5, 4, seed=2)
    got = scaled_dot_product(q, k, v, enable_gqa=True).run(Exact())
    k, v = k.repeat_interleave(2, 1), v.repeat_interleave(3, 1)
    torch.testing.assert_close(got, F.scaled_dot_product_attention(q, k, v))


def test_no_gradient_is_nan_where_a_query_may_look_nowhere():
    q = Q.clone().requires_grad_()
    scaled_dot_product(q, K, V, attn_mask=HIDES_ALL).run(Exact()).sum().backward()
    assert torch.isfinite(q.grad).all()
    assert not q.grad[:, :, 2].any()


def test_dropout_keeps_the_mean():
    ones = torch.ones(1, 200, 200)
    with torch.random.fork_rng():
        torch.manual_seed(0)
        y = scaled_dot_product(ones, ones, ones, dropout_p=0.5).run(Exact())
    assert float(y.mean()) == pytest.approx(1, abs=0.02)
    assert y[0, :, 0].unique().numel() > 10


def test_both_masks_at_once_are_left_to_torch_to_refuse():
    assert scaled_dot_product(Q, K, V, attn_mask=HIDES_ALL, is_causal=True) is None


def emulated_product(x, w, mul, sx=None):
    """By hand: codes, products of codes, scale."""
    sx, sw = x.abs().max() / 127 if sx is None else sx, w.abs().max() / 127
    a, b = torch.round(x / sx).clamp(-127, 127), torch.round(w / sw)
    out = dv.ops.linear_codes
    pairs = zip(a.flatten(0, -3), b.mT.flatten(0, -3), strict=True)
    sums = torch.stack([out(p.to(torch.int8), r.to(torch.int8), mul) for p, r in pairs])
    return (sums.float() * (sx * sw)).reshape(*x.shape[:-1], w.shape[-1])


@pytest.mark.parametrize("options", MASKS.values(), ids=MASKS)
def test_emulated_attention_is_the_unfused_one_written_by_hand(options):
    """A mask is added after the scaling, never scaled itself (d-Matrix's emulation scaled it)."""
    mul = dv.multiplier("mul8s_1L2H@v1.1")
    model = Attend(**options)
    dv.apply_(model, dv.Recipe(dv.rule("*", **INT8, mul=mul)), (Q, K, V))
    seen = []
    with tap(model, lambda op, call: seen.append((op.key, call.output))):
        got = model(Q, K, V)
    scores = emulated_product(Q, K.mT, mul)
    assert [key for key, _ in seen] == [".:matmul_0", ".:matmul_1"]
    assert torch.equal(seen[0][1], scores)
    scores = scores * options.get("scale", 1 / math.sqrt(4))
    mask = options.get("attn_mask")
    if options.get("is_causal"):
        mask = torch.ones(5, 6, dtype=torch.bool).tril()
    if mask is not None:
        hides = mask.dtype == torch.bool
        scores = scores.masked_fill(~mask, -math.inf) if hides else scores + mask
    weights = F.softmax(scores, -1).nan_to_num(0.0)
    wanted = emulated_product(weights, V, mul, model._dovetail_matmul1_input_scale)
    torch.testing.assert_close(got, wanted, rtol=0, atol=1e-6)


def test_a_rule_for_one_product_leaves_the_other_exact():
    model = Attend()
    plan = dv.apply_(model, dv.Recipe(dv.rule(".:matmul_1", **INT8)), (Q, K, V))
    assert [op.key for op in plan] == [".:matmul_1"]
    assert plan.left_exact == (".:matmul_0", ".:mul", ".:softmax")
    seen = []
    with tap(model, lambda op, call: seen.append((op.key, call.x))):
        model(Q, K, V)
    assert [key for key, _ in seen] == [".:matmul_1"]
    torch.testing.assert_close(seen[0][1], F.softmax(Q @ K.mT / 2, -1))


class Twice(nn.Module):
    def forward(self, q, k, v):
        first = F.scaled_dot_product_attention(q, k, v)
        return F.scaled_dot_product_attention(q, k, v) - first


def test_a_call_that_no_rule_touches_stays_fused():
    model = Twice()
    dv.apply_(model, dv.Recipe(dv.rule(".:matmul_2", **INT8)), (Q, K, V))
    calls = []
    with torch.profiler.profile() as profile:
        got = model(Q, K, V)
    calls = [e.key for e in profile.key_averages() if "scaled_dot_product" in e.key]
    assert "aten::scaled_dot_product_attention" in calls
    assert got.abs().max() > 0


MODULES = {
    "self": ({}, 1, {}),
    "no biases": ({"bias": False}, 1, {}),
    "batch first, no weights": ({"batch_first": True}, 1, {"need_weights": False}),
    "weights per head": ({}, 3, {"average_attn_weights": False}),
    "other widths": ({"kdim": 6, "vdim": 10}, 3, {}),
    "bias for key and value, zero attention": (
        {"add_bias_kv": True, "add_zero_attn": True},
        1,
        {"attn_mask": torch.ones(5, 5, dtype=torch.bool).triu(1)},
    ),
    "padding": ({}, 1, {"key_padding_mask": torch.arange(5) > torch.tensor([[3], [2], [4]])}),
    "float masks": (
        {},
        1,
        {"key_padding_mask": randn(3, 5), "attn_mask": randn(12, 5, 5, seed=8)},
    ),
    "causal hint": (
        {},
        1,
        {
            "attn_mask": nn.Transformer.generate_square_subsequent_mask(5),
            "is_causal": True,
            "need_weights": False,
        },
    ),
}


def attention_case(name):
    build_with, sources, call = MODULES[name]
    model = build(0, lambda: nn.MultiheadAttention(8, 4, **build_with)).eval()
    model.requires_grad_(True)
    widths = (8, build_with.get("kdim", 8), build_with.get("vdim", 8))
    shape = (3, 5) if build_with.get("batch_first") else (5, 3)
    x = [randn(*shape, w, seed=i) for i, w in enumerate(widths)]
    return model, ((x[0],) * 3 if sources == 1 else tuple(x)), call


@pytest.mark.parametrize("name", MODULES)
@pytest.mark.parametrize("where", ["eager", "no_grad"])
def test_multi_head_attention_within_rounding_of_torch(name, where):
    model, args, call = attention_case(name)
    with torch.set_grad_enabled(where == "eager"):
        wanted = model(*args, **call)
        names = ("query", "key", "value")
        example = dict(zip(names, args, strict=True)) | call
        plan = dv.apply_(model, dv.Recipe(dv.rule("*", **INT8)), example)
        assert [op.key for op in plan] == [
            *[f".:linear_{i}" for i in range(3)],
            ".:matmul_0",
            ".:matmul_1",
            ".:linear_3",
        ]
        with exact(model):
            got = model(*args, **call)
        emulated = model(*args, **call)
    torch.testing.assert_close(got[0], wanted[0], rtol=1e-5, atol=1e-5)
    assert (got[1] is None) == (wanted[1] is None)
    if wanted[1] is not None:
        torch.testing.assert_close(got[1], wanted[1], rtol=1e-5, atol=1e-5)
    assert not torch.allclose(emulated[0], wanted[0], rtol=1e-5, atol=1e-5)
    torch.testing.assert_close(emulated[0], wanted[0], rtol=0, atol=0.2)


def test_unbatched_multi_head_attention():
    model, x = build(0, lambda: nn.MultiheadAttention(8, 2)).eval(), randn(5, 8)
    wanted = model(x, x, x)
    dv.apply_(model, dv.Recipe(dv.rule("*", **INT8)), (x, x, x))
    with exact(model):
        got = model(x, x, x)
    for a, b in zip(got, wanted, strict=True):
        torch.testing.assert_close(a, b)


def test_what_multi_head_attention_does_not_take_is_left_to_torch():
    x, w = randn(5, 2, 8), randn(24, 8)
    given = (x, x, x, 8, 2, w, None, None, None, False, 0.0, randn(8, 8), None)
    assert multi_head(*given) is not None
    assert multi_head(*given, static_k=randn(4, 5, 4)) is None
    assert multi_head(*given, is_causal=True) is None


def test_training_reaches_the_packed_weight():
    model, x = build(0, lambda: nn.MultiheadAttention(8, 2)), randn(5, 3, 8)
    dv.apply_(model, dv.Recipe(dv.rule("*", **INT8)), (x, x, x))
    model(x, x, x)[0].square().sum().backward()
    assert all(float(p.grad.abs().sum()) > 0 for n, p in model.named_parameters() if "weight" in n)


def test_a_changed_weight_is_seen():
    model, x = build(0, lambda: nn.MultiheadAttention(8, 2)).eval(), randn(5, 3, 8)
    dv.apply_(model, dv.Recipe(dv.rule("*:linear*", **INT8)), (x, x, x))
    with torch.no_grad():
        first = model(x, x, x)[0]
        assert torch.equal(model(x, x, x)[0], first)
        model.in_proj_weight.mul_(-2)
        fresh = build(0, lambda: nn.MultiheadAttention(8, 2)).eval()
        dv.load_state(fresh, dv.state(model), (x, x, x))
        fresh.in_proj_weight.mul_(-2)
        assert torch.equal(model(x, x, x)[0], fresh(x, x, x)[0])


def test_copies_and_pickles():
    model, x = build(0, lambda: nn.MultiheadAttention(8, 2)).eval(), randn(5, 3, 8)
    dv.apply_(model, dv.Recipe(dv.rule("*", **INT8)), (x, x, x))
    wanted = model(x, x, x)[0]
    for other in (copy.deepcopy(model), pickle.loads(pickle.dumps(model))):
        assert torch.equal(other(x, x, x)[0], wanted)


@pytest.mark.parametrize("low", [-math.inf, torch.finfo(torch.float32).min])
def test_hidden_scores_are_seen_by_no_cast(low):
    """Blocks would take the size of the mask's numbers, and the open scores vanish."""
    mask = torch.zeros(5, 6)
    mask[:, 4:] = low
    model = Attend(attn_mask=mask)
    fmt = "bfp(m=6, block=6)"
    recipe = dv.Recipe(dv.rule(op="softmax add", input=fmt, other="fp8_e4m3", output="bf16"))
    plan = dv.apply_(model, recipe, (Q, K, V))
    assert [op.key for op in plan] == [".:add", ".:softmax"]
    open_scores = dv.cast(Q @ K.mT * 0.5, fmt)
    open_scores = torch.cat([dv.cast(open_scores, "bf16")[..., :4], torch.zeros(2, 3, 5, 2)], -1)
    seen = dv.cast(open_scores, fmt)
    weights = dv.cast(F.softmax(seen.masked_fill(mask == low, -math.inf), -1), "bf16")
    torch.testing.assert_close(model(Q, K, V), weights @ V)
