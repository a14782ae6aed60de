"""Accumulated operations: every order of sum, bit-equal to plain loops for every kind of op."""

from __future__ import annotations

from contextlib import nullcontext

import pytest
import torch
from hypothesis import given
from hypothesis import strategies as st
from torch import nn

import dovetail as dv
from dovetail.accumulators.reference import accumulate as by_definition
from dovetail.kernels import native, using
from dovetail.kernels.accumulate_reference import sums
from dovetail.kernels.accumulated_mac import AccumulatedMac, plan_accumulated
from dovetail.kernels.geometry import LINEAR, Geometry
from dovetail.kernels.realisation import Operands
from helpers import build, product_of, randn, random_codes, random_table

TABLE = random_table(4, -3000, 3000)
MULTIPLIERS = ["exact", "mul8s_1KV9", TABLE, "drum(k=6, bits=12)"]
INTEGER = [
    *("int12", "int16(saturate)", "int12(saturate, tree)", "int12(saturate, order=chunk(7))"),
    *("int10(saturate, chunk=5)", "int12(saturate, chunk=3, order=tree)", "int16(saturate, end)"),
    *("int63(saturate)", "loa(bits=16, low=6)", "truncated(bits=18, low=3, order=chunk(5))"),
    "eta(bits=20, low=8, order=tree)",
]
FLOATING = [
    *("fp32", "fp16", "bf16", "fp16(end)", "bf16(chunk=16)", "bf16(tree)", "fp16(order=chunk(9))"),
    *("bf16(tree, chunk=3)", "fp8_e5m2", "fp16(rounding=ToOdd)", "float(e=8, m=12)"),
]
KINDS = ["linear", "conv", "matmul"]
GEOMETRIES = [
    # a, w, arguments of conv_codes
    ((2, 3, 9), (4, 3, 4), {}),
    ((2, 4, 6, 5), (6, 2, 3, 2), {"groups": 2, "padding": 1, "stride": (1, 2)}),
    ((1, 4, 5, 7), (8, 1, 3, 3), {"groups": 4, "padding": [(1, 0), (2, 1)], "dilation": (2, 1)}),
    ((1, 2, 4, 4, 3), (2, 2, 2, 2, 2), {"padding": (1, 0, 1)}),
]


def bits(x: torch.Tensor) -> torch.Tensor:
    """Floating-point results as patterns, so that -0 is not +0 and NaN is NaN."""
    return torch.nan_to_num(x, nan=0.5).double().view(torch.int64) if x.is_floating_point() else x


@pytest.mark.parametrize("acc", INTEGER + FLOATING)
@pytest.mark.parametrize("mul", MULTIPLIERS, ids=str)
def test_linear_is_the_loop(mul, acc):
    wide = "drum" in str(mul)
    a, w = (random_codes(s, 12 if wide else 8, seed=i) for i, s in enumerate([(3, 41), (5, 41)]))
    got = dv.ops.linear_codes(a, w, mul, acc)
    f = product_of(dv.multiplier(mul))
    wanted = sums(a, w, f, dv.accumulator(acc), LINEAR)
    assert torch.equal(bits(got), bits(wanted.to(got.dtype)))
    with using("reference"):
        assert torch.equal(bits(dv.ops.linear_codes(a, w, mul, acc)), bits(got))


@pytest.mark.parametrize("acc", [*INTEGER[1:7], "loa(bits=16, low=6)", *FLOATING[1:6]])
@pytest.mark.parametrize(("a", "w", "window"), GEOMETRIES)
def test_convolution_is_the_loop(a, w, window, acc):
    a, w = random_codes(a, seed=1), random_codes(w, seed=2)
    got = dv.ops.conv_codes(a, w, TABLE, **window, pad_code=-7, acc=acc)
    geometry = Geometry.conv(a.dim() - 2, **window)
    f, register = product_of(TABLE), dv.accumulator(acc)
    wanted = sums(a, w, f, register, geometry, -7)
    assert torch.equal(bits(got), bits(wanted.to(got.dtype)))


@given(
    st.sampled_from(["int8(saturate)", "int8(saturate, tree)", "int9(saturate, order=chunk(3))"])
    | st.sampled_from(
        ["fp8_e4m3", "fp8_e4m3(tree)", "fp8_e5m2(chunk=3)", "int8(saturate, chunk=4)"]
    ),
    st.lists(st.integers(-128, 127), max_size=40),
    st.integers(-3, 3),
)
def test_any_products_in_any_order(acc, codes, weight):
    a = torch.tensor([codes], dtype=torch.int8).reshape(1, -1)
    w = torch.full_like(a, weight)
    register = dv.accumulator(acc)
    wanted = by_definition([x * weight for x in codes], register)
    assert dv.ops.linear_codes(a, w, "exact", acc).item() == wanted


def test_slabs_of_products_do_not_change_a_bit(monkeypatch):
    a, w = random_codes((4, 90), seed=1), random_codes((3, 90), seed=2)
    whole = {acc: dv.ops.linear_codes(a, w, TABLE, acc) for acc in INTEGER + FLOATING}
    monkeypatch.setattr("dovetail.kernels.accumulate._SLAB", 40)
    for acc, wanted in whole.items():
        assert torch.equal(bits(dv.ops.linear_codes(a, w, TABLE, acc)), bits(wanted)), acc


@pytest.mark.parametrize("acc", ["int22(saturate)", "int22(saturate, tree)", "bf16", "fp16"])
@pytest.mark.parametrize("mul", ["exact", "mul8s_1KV9", TABLE], ids=str)
def test_sums_that_cannot_overflow_are_not_formed_step_by_step(mul, acc, monkeypatch):
    """The bound over all operands is beyond the register, the magnitudes of these are not."""
    a, w = random_codes((3, 300), 4, seed=1), random_codes((5, 300), 2, seed=2)
    a[:, 3 if acc.startswith("int") else 2 :] = 0
    wanted = {True: dv.ops.linear_codes(a, w, mul, acc)}
    monkeypatch.setattr(
        AccumulatedMac, "_fitting", lambda mac, rows, *_: torch.zeros(len(rows), dtype=torch.bool)
    )
    wanted[False] = dv.ops.linear_codes(a, w, mul, acc)
    assert torch.equal(wanted[True], wanted[False])


@pytest.mark.parametrize("shape", [(0, 8), (8,), (2, 3, 8), (2, 0)])
def test_shapes(shape):
    a, w = torch.ones(shape, dtype=torch.int8), torch.ones(5, shape[-1], dtype=torch.int8)
    for acc in ("int8(saturate)", "fp8_e4m3", "int8(saturate, tree)", "fp8_e4m3(chunk=3)"):
        y = dv.ops.linear_codes(a * 127, w * 127, "exact", acc)
        assert y.shape == (*shape[:-1], 5)
        assert (y == (0 if shape[-1] == 0 else 127 if acc.startswith("int") else 448)).all()


@pytest.mark.parametrize(
    ("acc", "name"),
    [
        ("int32", "fast"),  # nothing overflows
        ("int32(saturate)", "fast"),
        ("int16", "fast"),  # associative
        ("int16(saturate, end)", "fast"),
        ("fp32", "fast"),  # integers up to 2**24
        ("fp16(end)", "fast"),
        ("int16(saturate)", "accumulated"),
        ("fp16", "accumulated"),
        ("loa(bits=32, low=2)", "accumulated"),
    ],
)
def test_the_loop_over_k_runs_only_where_it_must(acc, name):
    mul, operands = dv.multiplier("exact"), Operands((-128, 127), (-128, 127))
    fast = plan_accumulated(mul, operands, None, 512).name
    chosen = plan_accumulated(mul, operands, dv.accumulator(acc), 512)
    steps = "native-accumulated" if native.available() else "torch-accumulated"
    assert chosen.name == (fast if name == "fast" else steps)
    assert plan_accumulated(mul, operands, dv.accumulator(acc), 512) is chosen


# Floating-point operands, through a model --------------------------------------------------------


def layer(kind: str) -> tuple[nn.Module, torch.Tensor]:
    if kind == "linear":
        return build(1, lambda: nn.Linear(23, 6)), randn(3, 4, 23, seed=2)
    if kind == "conv":
        make = lambda: nn.Conv2d(4, 6, (3, 2), (1, 2), padding=1, dilation=(2, 1), groups=2)  # noqa: E731
        return build(1, make), randn(2, 4, 7, 6, seed=2)

    class Square(nn.Module):
        def forward(self, x: torch.Tensor) -> torch.Tensor:
            return x @ x.mT

    return Square(), randn(2, 5, 19, seed=2)


def expected(kind: str, model: nn.Module, x: torch.Tensor, fmt: str, acc: str) -> torch.Tensor:
    a, register = dv.cast(x, fmt), dv.accumulator(acc)
    multiply = lambda p, q: p * q  # noqa: E731
    if kind == "matmul":
        pairs = [sums(m, m, multiply, register, LINEAR) for m in a]
        return torch.stack(pairs).float()
    w, bias = dv.cast(model.weight.detach(), fmt), model.bias.detach()
    if kind == "linear":
        return sums(a, w, multiply, register, LINEAR).float() + bias
    window = {"stride": (1, 2), "padding": 1, "dilation": (2, 1), "groups": 2}
    total = sums(a, w, multiply, register, Geometry.conv(2, **window), 0.0).float()
    return total + bias[:, None, None]


@pytest.mark.parametrize("acc", FLOATING)
@pytest.mark.parametrize("kind", KINDS)
def test_floating_point_operands_are_the_loop(kind, acc):
    """Every register meets every kind of op and every format, each kind of op all formats."""
    fmt = ("bf16", "fp8_e4m3", "fp16")[(KINDS.index(kind) + FLOATING.index(acc)) % 3]
    model, x = layer(kind)
    wanted = expected(kind, model, x, fmt, acc)
    dv.apply_(model, dv.Recipe(dv.rule("*", input=fmt, weight=fmt, acc=acc)), x)
    assert torch.equal(bits(model(x)), bits(wanted))


def test_full_precision_operands_have_exact_products():
    """fp32 products have 48 bits: summed in fp32 they are rounded once, not twice."""
    model, x = layer("linear")
    register = dv.accumulator("fp32")
    weight, bias = model.weight.detach(), model.bias.detach()
    wanted = sums(x, weight, lambda p, q: p * q, register, LINEAR).float() + bias
    dv.apply_(model, dv.Recipe(dv.rule("*", acc="fp32")), x)
    assert torch.equal(model(x), wanted)


@pytest.mark.parametrize("value", [float("inf"), float("nan"), 3e38])
def test_infinity_and_nan_go_through(value):
    model = build(1, lambda: nn.Linear(5, 3))
    x = randn(2, 5)
    dv.apply_(model, dv.Recipe(dv.rule("*", acc="fp16")), x)
    x[0, 2] = value
    y = model(x)
    assert torch.equal(y[1], model(x[1:])[0])
    assert y[0].isnan().all() if value != value else y[0].isinf().all()


def test_the_gradient_is_that_of_the_exact_product():
    model, x = layer("conv")
    dv.apply_(model, dv.Recipe(dv.rule("*", input="bf16", weight="bf16", acc="fp16")), x)
    model(x).sum().backward()
    found = model.weight.grad.clone()
    dv.remove_(model)
    dv.apply_(model, dv.Recipe(dv.rule("*", input="bf16", weight="bf16")), x)
    model.zero_grad()
    model(x).sum().backward()
    assert torch.equal(found, model.weight.grad)


@pytest.mark.parametrize("kind", KINDS)
def test_vmap(kind):
    model, x = layer(kind)
    dv.apply_(model, dv.Recipe(dv.rule("*", input="bf16", weight="bf16", acc="fp16")), x)
    rows = torch.func.vmap(lambda row: model(row[None])[0])(x)
    assert torch.equal(rows, model(x))


def test_a_transposed_convolution_is_the_plain_one_that_computes_it():
    """Its inserted zeros are products too; fp32 sums of small integers are exact in any order."""
    make = lambda: nn.ConvTranspose2d(4, 6, 3, stride=2, padding=1, groups=2)  # noqa: E731
    model, x = build(1, make), randn(2, 4, 5, 4, seed=2).mul(4).round()
    with torch.no_grad():
        model.weight.copy_(model.weight.mul(30).round())
    wanted = model(x).detach()
    dv.apply_(model, dv.Recipe(dv.rule("*", acc="fp32")), x)
    with dv.counters(model) as found:
        assert torch.allclose(model(x), wanted, rtol=0, atol=1e-5)
    assert found["."].additions == 4 // 2 * 9 * wanted.numel()


def test_codes_through_a_floating_point_register_with_zero_points():
    model, x = build(1, lambda: nn.Linear(9, 4)), randn(5, 9) + 0.5
    rule = {"input": "int8(affine)", "weight": "int8", "mul": TABLE}
    dv.apply_(model, dv.Recipe(dv.rule("*", acc="bf16", **rule)), x)
    with using("reference"):
        wanted = model(x)
    assert torch.equal(model(x), wanted)
    dv.remove_(model)
    dv.apply_(model, dv.Recipe(dv.rule("*", **rule)), x)
    assert not torch.equal(model(x), wanted)


# Counters ----------------------------------------------------------------------------------------


def test_counters():
    model = build(1, lambda: nn.Sequential(nn.Linear(3, 2, bias=False), nn.Linear(2, 2)))
    with torch.no_grad():
        model[0].weight.copy_(torch.tensor([[1.0, 1.0, -1.0], [0.0, 0.0, 1.0]]))
    x = torch.ones(1, 3)
    rules = [
        dv.rule("0", input="int8", weight="int8", acc="int15(saturate)"),
        dv.rule("1", input="bf16", weight="bf16", acc="fp16"),
    ]
    dv.apply_(model, dv.Recipe(*rules), x)
    with dv.counters(model) as found:
        model(x)
        model(x)
    # 127*127 twice is beyond 2**14 - 1, then comes back; the second output stays within
    first = found["0"]
    assert (first.additions, first.overflows, first.outputs, first.overflowed) == (12, 2, 4, 2)
    assert found["1"].additions == 8
    assert found["1"].overflows == 0
    model(x)
    assert found["0"].additions == 12


class Product(nn.Module):
    def forward(self, a, b):
        return a @ b


def test_products_of_activations_are_counted():
    a, b = randn(2, 3, 40, seed=1), randn(2, 40, 5, seed=2)
    model = Product()
    rule = dv.rule(op="matmul", input="int8", weight="int8(per_tensor)", acc="int14(saturate)")
    dv.apply_(model, dv.Recipe(rule), (a, b))
    found = []
    for realisation in (None, "torch-products"):
        with using(realisation) if realisation else nullcontext(), dv.counters(model) as counted:
            model(a, b)
        found += counted.values()
    assert found[0] == found[1]
    assert found[0].outputs == 2 * 3 * 5
    assert found[0].overflows > 0


def test_wrapping_is_counted_where_it_happens():
    model = build(1, lambda: nn.Linear(4, 1, bias=False))
    with torch.no_grad():
        model.weight.copy_(torch.tensor([[1.0, 1.0, -1.0, -1.0]]))
    x = torch.ones(1, 4)
    for acc, overflows in (("int15", 2), ("int15(saturate)", 1), ("int15(saturate, end)", 0)):
        dv.apply_(model, dv.Recipe(dv.rule("*", input="int8", weight="int8", acc=acc)), x)
        with dv.counters(model) as found:
            model(x)
        assert found["."].overflows == overflows, acc
        dv.remove_(model)
