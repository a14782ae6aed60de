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
        ("mxint8", "mxint8(block=16)"),  # blocks that do not meet
        ("mxint8(axis=0)", "mxint8"),  # blocks across what is summed
        ("mxfp8_e4m3", "mxfp8_e4m3"),  # elements that are no short integers
        ("mxint8", "fp8_e4m3"),
    ],
)
def test_other_pairs_are_cast_and_multiplied(first, second):
    layer, x = build(0, lambda: nn.Linear(40, 5)), randn(3, 40)
    weight, bias = layer.weight.detach().clone(), layer.bias.detach().clone()
    dv.apply_(layer, dv.Recipe(dv.rule("*", input=first, weight=second)), x)
    rounded = [dv.cast(x, first), dv.cast(weight, second)]
    assert torch.equal(layer(x), nn.functional.linear(*rounded, bias))


def test_blocks_whose_axis_says_what_is_the_default_are_multiplied():
    layer, x = build(0, lambda: nn.Linear(40, 5)), randn(3, 40)
    weight, bias = layer.weight.detach().clone(), layer.bias.detach().clone()
    fmt = dv.format("mxint8(axis=-1)")
    dv.apply_(layer, dv.Recipe(dv.rule("*", input=fmt, weight=fmt)), x)
    with using("reference"):
        assert torch.equal(layer(x), block.emulate(x, weight, bias, fmt, fmt, Geometry()))
