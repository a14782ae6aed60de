"""A layer whose operands are block formats runs block by block, in every way a model is run."""

from __future__ import annotations

import pytest
import torch
from torch import nn

import dovetail as dv
from dovetail.kernels import block
from dovetail.kernels.geometry import Geometry
from dovetail.kernels.realisation import using
from helpers import build, randn


def make() -> nn.Module:
    return nn.Sequential(nn.Conv2d(6, 8, 3, padding=1, groups=2), nn.Flatten(), nn.Linear(128, 5))


def test_layers_multiply_blocks():
    model, x = build(0, make).eval(), randn(2, 6, 4, 4)
    conv, linear = (
        [p.detach().clone() for p in model[0].parameters()],
        [p.detach().clone() for p in model[2].parameters()],
    )
    fmt = dv.format("mxint8(block=16)")
    dv.apply_(model, dv.Recipe(dv.rule("*", input=str(fmt), weight=str(fmt))), x)
    middle = block.emulate(x, *conv, fmt, fmt, Geometry.conv(2, padding=1, groups=2))
    expected = block.emulate(middle.flatten(1), *linear, fmt, fmt, Geometry())
    y = model(x)
    assert torch.equal(y, expected)
    assert torch.equal(torch.compile(model, backend="aot_eager")(x), expected)
    y.sum().backward()
    grads = torch.func.grad(lambda p: torch.func.functional_call(model, p, (x,)).sum())(
        dict(model.named_parameters())
    )
    torch.testing.assert_close(grads["2.weight"], model[2].weight.grad)


def test_accumulators_add_block_by_block():
    model, x = build(0, make).eval(), randn(2, 6, 4, 4)
    fmt, plain = dv.format("mxint8(block=3)"), None
    for acc in ("fp32", "fp16", "bf16(order=tree)"):
        recipe = dv.Recipe(dv.rule("*", input=str(fmt), weight=str(fmt), acc=acc))
        parameters = [[p.detach() for p in model[i].parameters()] for i in (0, 2)]
        dv.apply_(model, recipe, x)
        register, geometry = dv.accumulator(acc), Geometry.conv(2, padding=1, groups=2)
        middle = block.emulate(x, *parameters[0], fmt, fmt, geometry, register)
        expected = block.emulate(
            middle.flatten(1), *parameters[1], fmt, fmt, Geometry(), register
        ).detach()
        y = model(x)
        assert torch.equal(y, expected)
        assert torch.equal(torch.compile(model, backend="aot_eager")(x), expected)
        y.sum().backward()
        with dv.counters(model) as counted, torch.no_grad():
            model(x)
        fewer = register.order == "tree"  # the first of which starts with no addition
        assert counted["0"].additions == 2 * 8 * 16 * (9 - fewer)  # nine taps, a block each
        assert counted["2"].additions == 2 * 5 * (-(-128 // 3) - fewer)
        plain = y if plain is None else plain
        assert torch.equal(y, plain) == (acc == "fp32")
        dv.remove_(model)


def test_attention_through_an_accumulator():
    class Scores(nn.Module):
        def forward(self, q, k):
            return torch.matmul(q, k.mT)

    q, k = randn(2, 3, 4, 16), randn(2, 3, 5, 16, seed=1)
    fmt, register = dv.format("mxint8(block=8)"), dv.accumulator("fp8_e4m3")
    model = Scores()
    dv.apply_(model, dv.Recipe(dv.rule("*", input=fmt, weight=fmt, acc=register)), (q, k))
    assert torch.equal(model(q, k), block.matmul(q, k.mT, fmt, fmt, register))
    with dv.counters(model) as counted:
        model(q, 1000 * k)
        assert model(q[:0], k[:0]).shape == (0, 3, 4, 5)  # which counts nothing
    (found,) = counted.values()
    assert found.additions == 2 * 3 * 4 * 5 * 2
    assert found.overflowed > 0


def test_transposed_convolutions_multiply_blocks():
    layer, x = build(0, lambda: nn.ConvTranspose2d(6, 4, 3, 2, 1, groups=2)), randn(2, 6, 4, 5)
    fmt = dv.format("mxint8(block=2)")
    weight, bias = layer.weight.detach().clone(), layer.bias.detach().clone()
    dv.apply_(layer, dv.Recipe(dv.rule("*", input=fmt, weight=fmt)), x)
    # As a convolution: pixels apart, the window turned round, inputs and outputs swapped.
    apart = torch.zeros(2, 6, 7, 9)
    apart[:, :, ::2, ::2] = x
    turned = weight.unflatten(0, (2, 3)).transpose(1, 2).flatten(0, 1).flip(2, 3)
    with using("reference"):
        expected = block.emulate(
            apart, turned, bias, fmt, fmt, Geometry.conv(2, padding=1, groups=2)
        )
    assert torch.equal(layer(x), expected)


@pytest.mark.parametrize(
    ("first", "second"),
    [
        ("mxint8", "mxint8(block=48)"),  # blocks that do not nest
        ("mxint8(axis=0)", "mxint8"),  # blocks across what is summed
        ("mxint8", "nf4(block=32)"),  # elements that are looked up
        ("mxint8", "fp8_e4m3"),
    ],
)
def test_other_pairs_are_cast_and_multiplied(first, second):
    layer, x = build(0, lambda: nn.Linear(40, 5)), randn(3, 40)
    weight, bias = layer.weight.detach().clone(), layer.bias.detach().clone()
    plan = dv.apply_(layer, dv.Recipe(dv.rule("*", input=first, weight=second)), x)
    assert plan["."].product == "cast, then torch"
    rounded = [dv.cast(x, first), dv.cast(weight, second)]
    assert torch.equal(layer(x), nn.functional.linear(*rounded, bias))


def test_blocks_whose_axis_says_what_is_the_default_are_multiplied():
    layer, x = build(0, lambda: nn.Linear(40, 5)), randn(3, 40)
    weight, bias = layer.weight.detach().clone(), layer.bias.detach().clone()
    fmt = dv.format("mxint8(axis=-1)")
    dv.apply_(layer, dv.Recipe(dv.rule("*", input=fmt, weight=fmt)), x)
    with using("reference"):
        assert torch.equal(layer(x), block.emulate(x, weight, bias, fmt, fmt, Geometry()))


@pytest.mark.parametrize(
    ("first", "second"),
    [
        ("mxfp8_e5m2(block=16)", "mxfp8_e5m2(block=4)"),
        ("nvfp4(block=4)", "SBFP<XP[4,0](CSN)><FP[0|4|4,7](FN)>{8}"),
    ],
)
def test_other_formats_in_every_way_a_model_is_run(first, second):
    model, x = build(0, make).eval(), randn(2, 6, 4, 4)
    conv, linear = ([p.detach().clone() for p in model[i].parameters()] for i in (0, 2))
    plan = dv.apply_(model, dv.Recipe(dv.rule("*", input=first, weight=second)), x)
    assert [op.product for op in plan] == ["exact blocks"] * 2
    formats = dv.format(first), dv.format(second)
    with using("reference"):
        middle = block.emulate(x, *conv, *formats, Geometry.conv(2, padding=1, groups=2))
        expected = block.emulate(middle.flatten(1), *linear, *formats, Geometry())
    y = model(x)
    assert torch.equal(y, expected)
    assert torch.equal(torch.compile(model, backend="aot_eager")(x), expected)
    exported = torch.export.export(model, (x,)).module()
    assert torch.equal(exported(x), expected)
    y.sum().backward()
    grads = torch.func.grad(lambda p: torch.func.functional_call(model, p, (x,)).sum())(
        dict(model.named_parameters())
    )
    torch.testing.assert_close(grads["2.weight"], model[2].weight.grad)


@pytest.mark.parametrize("name", ["mxfp8_e4m3", "mxint8", "mxfp4(mode=RCEIL)"])
def test_stochastic_casts_are_multiplied_exactly(name):
    fmt = name.removesuffix(")") + ("(" if "(" not in name else ", ") + "rounding=Stochastic)"
    layer, x = build(0, lambda: nn.Linear(70, 5)), randn(3, 70).requires_grad_()
    weight, bias = layer.weight.detach().clone(), layer.bias.detach().clone()
    plan = dv.apply_(layer, dv.Recipe(dv.rule("*", input=fmt, weight=name)), x)
    assert plan["."].product == "exact blocks"
    torch.manual_seed(3)
    y = layer(x)
    torch.manual_seed(3)
    cast = dv.cast(x.detach(), fmt)
    assert torch.equal(dv.cast(cast, name), cast)
    with using("reference"):
        expected = block.emulate(cast, weight, bias, dv.format(name), dv.format(name), Geometry())
        assert torch.equal(y, expected)
        given = block.emulate(cast, weight, bias, dv.format(fmt), dv.format(name), Geometry())
        assert torch.equal(given, expected)
    y.sum().backward()
    torch.manual_seed(3)
    again = x.detach().clone().requires_grad_()
    nn.functional.linear(dv.cast(again, fmt), dv.cast(weight, name), bias).sum().backward()
    torch.testing.assert_close(x.grad, again.grad)
    with using("torch-products"), torch.no_grad():
        torch.manual_seed(3)
        assert torch.equal(layer(x), expected)


def test_a_plan_says_how_products_are_computed():
    model, x = nn.Sequential(nn.Linear(8, 8), nn.ReLU(), nn.Linear(8, 4)), randn(2, 8)
    recipe = dv.Recipe(
        dv.rule("*", input="nvfp4", weight="mxfp8_e4m3"), dv.rule("2", weight="fp8_e4m3")
    )
    plan = dv.plan(model, recipe, x)
    assert [op.product for op in plan] == ["exact blocks", "cast, then torch"]
    assert [op["product"] for op in plan.to_dict()["ops"]] == [op.product for op in plan]
    assert "exact blocks" in plan.table()
    assert "cast, then torch" in plan.table()
    words = {
        "codes": {"input": "int8", "weight": "int8"},
        "floats": {"input": "bf16", "weight": "bf16", "mul": "mitchell(format=bf16)"},
        "cast, then accumulated": {"input": "fp8_e4m3", "weight": "mxint8", "acc": "fp16"},
    }
    for product, fields in words.items():
        assert dv.plan(model, dv.Recipe(dv.rule("*", **fields)), x)["0"].product == product
    grouped = nn.Conv2d(4, 4, 3, groups=2)
    random = {"input": "mxint8(rounding=Stochastic)", "weight": "mxint8"}
    for example in (None, randn(1, 4, 5, 5)):
        plan = dv.plan(grouped, dv.Recipe(dv.rule("*", **random)), example)
        assert plan["."].product == "cast, then torch"  # noise is drawn across the groups
