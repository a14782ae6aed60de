"""A network of composites under every kind of arithmetic: reached, calibrated, differentiable."""

from __future__ import annotations

import pytest
import torch
from torch import nn

import dovetail as dv
from helpers import INT8, build, randn


class Net(nn.Module):
    def __init__(self) -> None:
        super().__init__()
        self.up = nn.ConvTranspose1d(4, 8, 3, stride=2, output_padding=1, groups=2)
        self.rnn = nn.LSTM(8, 8, batch_first=True)
        self.attend = nn.MultiheadAttention(8, 2, batch_first=True)

    def forward(self, x):
        y, _ = self.rnn(self.up(x).transpose(1, 2))
        return self.attend(y, y, y)[0]


@pytest.mark.parametrize(
    ("fields", "error"),
    [
        (INT8, 0.02),
        (INT8 | {"input": "int8(affine)", "mul": "mul8s_1KV9", "acc": "int32"}, 0.3),
        (INT8 | {"output": "int8", "bias": "int8", "acc": "int24(saturate)"}, 0.02),
        ({"input": "int8(dynamic)", "weight": "int8(dynamic)", "output": "int8(dynamic)"}, 0.02),
        ({"input": "mxfp8_e4m3", "weight": "mxfp8_e4m3"}, 0.02),
        ({"input": "bfp(m=8, block=8)", "weight": "bfp(m=8, block=8)"}, 0.02),
        ({"input": "fp16", "weight": "fp16", "acc": "fp16"}, 0.002),
    ],
)
def test_every_product_is_reached_and_differentiable(fields, error):
    model, x = build(0, Net).eval(), randn(2, 4, 5)
    wanted = model(x).detach()
    plan = dv.apply_(model, dv.Recipe(dv.rule("*", **fields)), x)
    assert [op.key for op in plan] == [
        "up",
        "rnn:linear_0",
        "rnn:linear_1",
        *[f"attend:linear_{i}" for i in range(3)],
        "attend:matmul_0",
        "attend:matmul_1",
        "attend:linear_3",
    ]
    assert plan.uncovered == ()
    if any(op.ranged_slots for op in plan):
        with dv.calibrate(model):
            model(x)
    y = model(x)
    assert 0 < float((y.detach() - wanted).abs().max()) < error
    y.sum().backward()
    assert all(torch.isfinite(p.grad).all() for p in model.parameters())
    grad = torch.func.grad(lambda v: model(v).sum())(x)
    leaf = x.clone().requires_grad_()
    model(leaf).sum().backward()
    torch.testing.assert_close(grad, leaf.grad, rtol=1e-4, atol=1e-5)
    dv.remove_(model)
    assert torch.equal(model(x), wanted)
