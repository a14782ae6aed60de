"""What casts and registers of an emulated model cannot hold, counted per operation and slot."""

from __future__ import annotations

import math

import pytest
import torch
from torch import nn

import dovetail as dv
from dovetail.emulation import CastCounter
from helpers import build, randn


def counted(module: nn.Module, example, *inputs, calls: int = 1, **fields):
    dv.apply_(module, dv.Recipe(dv.rule("*", **fields)), example)
    with dv.counters(module) as found:
        for _ in range(calls):
            module(*inputs)
    dv.remove_(module)
    return found


def test_values_of_every_slot_over_all_calls():
    layer, x = build(0, lambda: nn.Linear(4, 3)), torch.tensor([[1.0, -2.0, 0.5, 1e-9]])
    given = torch.tensor([[3.0, -2.0, math.inf, 1e-9], [math.nan, 1.0, -9.0, 0.0]])
    fields = {"input": "int8", "weight": "int8", "bias": "fixed(8, 4)", "weight_storage": "mxfp4"}
    found = counted(layer, x, given, calls=2, **fields)["."]
    assert set(found.casts) == {"input", "weight", "bias", "weight_storage"}
    once = {"values": 8, "saturated": 2, "flushed": 1, "infinite": 1, "nan": 1, "nan_lost": 1}
    assert found.casts["input"] == CastCounter(**{name: 2 * n for name, n in once.items()})
    assert found.casts["weight"] == CastCounter(values=24)
    assert (found.casts["bias"].values, found.casts["weight_storage"].values) == (6, 24)
    assert (found.additions, found.outputs) == (0, 0)


@pytest.mark.parametrize(
    ("name", "values", "expected"),
    [
        ("fp8_e4m3", [500.0, -1e9, 1e-9, math.nan], {"saturated": 2, "flushed": 1, "nan": 1}),
        ("fp16", [1e6, 1.0, math.inf, 1e-12], {"overflows": 1, "infinite": 1, "flushed": 1}),
        (
            "fp4_e2m1fn",
            [9.0, math.nan, 0.1, 6.2],
            {"saturated": 1, "flushed": 1, "nan": 1, "lost": 1},
        ),
        ("fp8_e4m3(saturation=SatNone)", [500.0, 1.0, 1.0, 1.0], {"overflows": 1}),
        ("fixed(8, 4)", [9.0, -9.0, math.inf, 1e-3], {"saturated": 2, "infinite": 1, "flushed": 1}),
        ("mxfp4(block=2)", [1.0, 7.9, math.nan, 1.0], {"saturated": 1, "overflows": 1, "nan": 1}),
        ("nf4(block=4)", [1.0, 2.0, 3.0, math.nan], {"overflows": 3, "nan": 1}),
        ("int4(group=2)", [1.0, 2.0, 1e-3, 1.0], {"flushed": 1}),
        ("same", [1e9, math.nan, 0.0, math.inf], {"nan": 1, "infinite": 1}),
        (
            "shaped(fp4_e2m1fn, keep=(1, 0, 2))",
            [9.0, 9.0, 9.0, 0.1],
            {"saturated": 1, "flushed": 1},
        ),
        (
            "shaped(fp4_e2m1fn, permute=(1, 0), before=fp8_e4m3)",
            [9.0, 999.0, 1.0, math.nan],
            {"saturated": 2, "nan": 1, "lost": 1},
        ),
    ],
)
def test_by_hand(name, values, expected):
    x = torch.tensor([values])
    found = counted(nn.LeakyReLU(), torch.ones(1, 4), x, op="leaky_relu", input=name)
    (counts,) = (c.casts["input"] for c in found.values())
    expected = {"nan_lost" if key == "lost" else key: n for key, n in expected.items()}
    assert counts == CastCounter(values=4, **expected)


def test_outputs_are_counted_before_they_are_cast():
    layer = nn.Linear(2, 2, bias=False)
    with torch.no_grad():
        layer.weight.copy_(torch.tensor([[1.0, 0.0], [0.0, 1e-3]]))
    found = counted(layer, torch.ones(1, 2), torch.tensor([[9.0, 9.0]]), output="fp4_e2m1fn")
    assert found["."].casts == {"output": CastCounter(values=2, saturated=1, flushed=1)}


def test_products_of_activations_and_what_a_mask_hides():
    class Product(nn.Module):
        def forward(self, a, b):
            return a @ b + torch.tensor([0.0, -math.inf])

    a, b = randn(3, 4), randn(4, 2, seed=1)
    model = Product()
    rules = [
        dv.rule("*", input="int8", weight="int8"),
        dv.rule(op="add", input="fp8_e4m3", other="fp8_e4m3", output="fp8_e4m3"),
    ]
    dv.apply_(model, dv.Recipe(*rules), (a, b))
    with dv.counters(model) as found:
        model(3 * a, 3 * b)
    product = next(c for key, c in found.items() if "matmul" in key)
    assert product.casts["input"].saturated == int(
        (3 * a.abs() > a.abs().max() * 127.5 / 127).sum()
    )
    assert product.casts["weight"].saturated == int(
        (3 * b.abs() > b.abs().max() * 127.5 / 127).sum()
    )
    added = next(c for key, c in found.items() if "add" in key)
    assert added.casts["other"].infinite == added.casts["output"].infinite == 0


def test_registers_and_casts_stand_side_by_side():
    layer, x = build(0, lambda: nn.Linear(64, 4)), torch.ones(1, 64)
    found = counted(layer, x, 2 * x, input="int8", weight="int8", acc="int16(saturate)")["."]
    assert found.additions == 256
    assert found.casts["input"].saturated == 64


def test_nothing_changes_for_who_is_counted():
    layer, x = build(0, lambda: nn.Linear(6, 4)), randn(3, 6)
    dv.apply_(layer, dv.Recipe(dv.rule("*", input="int8", weight="fp8_e4m3", output="bf16")), x)
    leaf = x.clone().requires_grad_()
    layer(leaf).sum().backward()
    watched = x.clone().requires_grad_()
    with dv.counters(layer) as found:
        layer(watched).sum().backward()
    assert torch.equal(leaf.grad, watched.grad)
    seen = dict(found)
    layer(x)
    assert found == seen


def test_strict_refuses_the_first_nan_that_a_format_has_not():
    x, bad = torch.ones(2, 4), torch.tensor([[1.0, math.nan, 0.0, math.nan], [1.0] * 4])
    net = nn.Sequential(nn.Linear(4, 4), nn.Linear(4, 2))
    dv.apply_(net, dv.Recipe(dv.rule("*", input="int8", weight="int8")), x)
    with pytest.raises(dv.DovetailError) as caught, dv.counters(net, strict=True):
        net(bad)
    assert "0: input: 'int8' has no code for NaN, and 2 of 8 values are NaN" in str(caught.value)
    with dv.counters(net, strict=True):
        net(x)  # and what was watched is no longer
    net(bad)
    dv.remove_(net)
    dv.apply_(net, dv.Recipe(dv.rule("*", input="fp8_e4m3")), x)
    with dv.counters(net, strict=True) as found:
        net(bad)
    assert (found["0"].casts["input"].nan, found["0"].casts["input"].nan_lost) == (2, 0)


def test_strict_casts():
    bad = torch.tensor([1.0, math.nan])
    for name in ("int8", "int8(group=2)", "fp4_e2m1fn", "nf4", "fixed(8, 4)", "nf4(block=2)"):
        if name != "nf4(block=2)":  # its float32 scale has NaN
            with pytest.raises(dv.DovetailError, match="has no code for NaN, and 1 of 2 values"):
                dv.cast(bad, name, strict=True)
        dv.cast(torch.ones(2), name, strict=True)
    for name in ("fp8_e4m3", "bf16", "mxfp4", "posit(8, 1)", "same", "nvfp4", "nf4(block=2)"):
        dv.cast(bad, name, strict=True)
    torch._dynamo.reset()
    with pytest.raises(dv.DovetailError, match="while a graph is traced"):
        torch.func.vmap(lambda v: dv.cast(v, "int8", strict=True))(bad)
