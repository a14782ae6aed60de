"""Operand counts against every product of a layer, one by one, and against what they are for."""

from __future__ import annotations

import numpy as np
import pytest
import torch
from torch import nn

import dovetail as dv
from dovetail.analysis import layers, operand_counts
from dovetail.emulation import tap
from dovetail.errors import DovetailError
from helpers import INT8, build, randn


def emulated(model, x, **fields):
    dv.apply_(model, dv.Recipe(dv.rule("*", **(INT8 | fields))), x)
    return model


def net():
    return nn.Sequential(nn.Conv2d(2, 4, 3, stride=2, padding=1, groups=2), nn.Flatten())


def by_loops(model, x, key):
    """Every pair of codes of a convolution, output by output."""
    seen = []
    with tap(model, lambda op, call: seen.append(call.codes()) if op.key == key else None):
        model(x)
    a, w, zero = seen[0]
    a = torch.nn.functional.pad(a, (1, 1, 1, 1), value=zero)
    joint = np.zeros((256, 256), dtype=np.int64)
    for image in a.tolist():
        for n, kernel in enumerate(w.tolist()):
            for top in range(0, len(image[0]) - 2, 2):
                for left in range(0, len(image[0][0]) - 2, 2):
                    for i in range(3):
                        for j in range(3):
                            code = image[n // 2][top + i][left + j]
                            joint[code & 255, kernel[0][i][j] & 255] += 1
    return joint


@pytest.mark.parametrize("input_", ["int8", "uint8"])
def test_pairs_of_a_convolution(input_):
    x = randn(2, 2, 5, 6)
    unsigned = {"input": "uint8", "weight": "uint8"} if input_ == "uint8" else {}
    model = emulated(build(0, net), x, **unsigned)
    found = operand_counts(model, x)["0"]
    joint = by_loops(model, x, "0")
    assert np.array_equal(found.joint, joint)
    assert np.array_equal(found.first, joint.sum(1))
    assert np.array_equal(found.second, joint.sum(0))
    assert found.depth == 9


def test_errors_are_those_of_the_layers_own_products():
    x = randn(16, 20)
    model = emulated(build(1, lambda: nn.Sequential(nn.Linear(20, 8))), x, mul="mul8s_1KV9")
    found = operand_counts(model, x)["0"]
    assert found.errors().ep == pytest.approx(layers(model, x)["0"].changed)
    assert found.errors(dv.multiplier("mul8s_1KVM")).bias != found.errors().bias
    noise = found.mul.model("noise", joint=found.joint)
    assert noise.mean == pytest.approx(found.errors().bias)
    assert noise.deviation**2 == pytest.approx(found.errors().variance)
    seen = []
    with tap(model, lambda op, call: seen.append(call.codes())):
        model(x)
    a, w, _ = seen[0]
    error = dv.ops.linear_codes(a.to(torch.int8), w.to(torch.int8), "mul8s_1KV9").double()
    error -= a.double() @ w.double().mT
    assert found.errors().summed(found.depth).mean == pytest.approx(float(error.mean()))


def test_calls_add_up_and_products_of_activations_count():
    class Twice(nn.Module):
        def __init__(self):
            super().__init__()
            self.fc = nn.Linear(4, 4)

        def forward(self, x):
            y = self.fc(x)
            return y @ y.mT

    x = randn(3, 4)
    model = emulated(build(2, Twice), x)
    found = operand_counts(model, x)
    assert {key: int(one.first.sum()) for key, one in found.items()} == {
        "fc": 3 * 4 * 4,
        ".:matmul": 3 * 4 * 3,
    }
    assert found[".:matmul"].depth == 4
    twice = emulated(nn.Sequential(*[build(3, lambda: nn.Linear(4, 4))] * 2), x)
    assert int(operand_counts(twice, x)["0"].first.sum()) == 2 * 3 * 4 * 4


def test_wide_operands_are_counted_one_by_one():
    x = randn(5, 6)
    fields = {"input": "int12", "weight": "int12", "mul": "drum(k=6, bits=12)"}
    found = operand_counts(emulated(nn.Sequential(nn.Linear(6, 3)), x, **fields), x)["0"]
    assert found.joint is None
    assert found.first.shape == (4096,)
    assert int(found.first.sum()) == int(found.second.sum()) == 5 * 6 * 3
    assert found.errors().mae > 0


def test_narrow_codes_of_an_unbound_multiplier():
    x = randn(5, 6)
    found = operand_counts(emulated(nn.Sequential(nn.Linear(6, 3)), x, weight="int4"), x)["0"]
    assert repr(found.mul) == "exact(bits=8, signed=True)"
    assert found.errors().ep == 0


def test_a_model_without_products_of_codes_is_refused():
    model, x = nn.Sequential(nn.Linear(2, 2)), torch.ones(1, 2)
    dv.apply_(model, dv.Recipe(dv.rule("*", input="bf16", weight="bf16")), x)
    with pytest.raises(DovetailError, match="multiplied no integer codes"):
        operand_counts(model, x)
