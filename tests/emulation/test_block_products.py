"""A layer whose operands are block formats runs block by block, in every way a model is run."""

from __future__ import annotations

import torch
from torch import nn

import dovetail as dv
from dovetail.kernels import block
from dovetail.kernels.geometry import Geometry
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
