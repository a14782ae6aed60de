"""Layers of codes in ONNX operators: the emulation's bits in onnxruntime, or a refusal."""

from __future__ import annotations

import pytest
import torch
from torch import nn

import dovetail as dv
from helpers import randn
from onnx_functions import Product, emulated, functions, layer, operators

LAYERS = ("linear", "matmul", "grouped", "conv1d", "transposed")
ARITHMETICS = {
    "exact": {"input": "int8", "weight": "int8"},
    "factored": {"input": "int8", "weight": "int8", "mul": "mul8s_1L2H@v1.1", "acc": "int24"},
    "affine": {"input": "int8(affine)", "weight": "int8(affine)", "mul": "mul8s_1KV9"},
    "unsigned": {"input": "uint8", "weight": "uint8", "mul": "drum(k=4, signed=False)"},
    "table": {"input": "int6", "weight": "int6", "mul": "mitchell(bits=6)"},
    "wide": {"input": "int12(affine)", "weight": "int16"},
    "wrapping": {"input": "int8", "weight": "int8", "acc": "int9"},
    "clamped": {"input": "int8", "weight": "int8", "acc": "int9(saturate, end)"},
    "dynamic": {"input": "int8(affine, dynamic)", "weight": "int4", "output": "int8(dynamic)"},
    "rounded": {"input": "int8(rounding=ToOdd)", "weight": "int8", "output": "fp8_e5m2"},
}


@pytest.mark.parametrize("kind", LAYERS)
@pytest.mark.parametrize("name", ARITHMETICS)
def test_a_layer_has_the_bits_of_the_emulation(kind: str, name: str) -> None:
    model, example = layer(kind)
    emulated(model, *example, **ARITHMETICS[name])
    found, rows = functions(model, *example)
    assert found
    assert all(row.is_equal for row in rows), rows
    assert all(row.elements > 0 for row in rows)


@pytest.mark.parametrize(
    ("fields", "there"),
    [
        (ARITHMETICS["exact"], {"MatMulInteger"}),
        (ARITHMETICS["factored"], {"MatMulInteger", "Gather"}),
        (ARITHMETICS["wrapping"], {"MatMulInteger", "Mod"}),
        (ARITHMETICS["wide"], {"MatMul"}),
        (ARITHMETICS["table"], {"Gather", "ReduceSum"}),
    ],
    ids=("exact", "factored", "wrapping", "wide", "table"),
)
def test_a_multiplier_is_written_by_the_operators_that_suit_it(fields, there) -> None:
    model, x = nn.Linear(200, 3), randn(2, 200)
    (function,), _ = functions(emulated(model, x, **fields), x)
    assert there <= operators(function)


def test_a_large_layer_is_looked_up_some_outputs_at_a_time(monkeypatch) -> None:
    monkeypatch.setattr("dovetail.interchange.onnx.products.LARGEST", 100)
    pairs = (nn.Conv2d(2, 6, 2, groups=2), randn(1, 2, 4, 4)), (nn.Linear(8, 7), randn(3, 8))
    for model, *example in (*pairs, (Product(), randn(2, 3, 8), randn(8, 5, seed=1))):
        emulated(model, *example, **ARITHMETICS["table"])
        (function,), (row,) = functions(model, *example)
        assert row.is_equal
        assert "Concat" in operators(function)


def test_a_bias_is_cast_before_it_is_added() -> None:
    model, x = nn.Linear(8, 3), randn(4, 8)
    fields = {"input": "int8", "weight": "int8", "bias": "fp8_e4m3"}
    found, rows = functions(emulated(model, x, **fields), x)
    assert len(found) == 1  # what is cast of a parameter is a constant
    assert rows[0].is_equal


def test_a_layer_in_double_precision() -> None:
    model, x = nn.Linear(8, 3).double(), randn(4, 8).double()
    _, (row,) = functions(emulated(model, x, input="int8(affine)", weight="int8"), x)
    assert row.is_equal


def test_a_weight_computed_from_the_input() -> None:
    class Net(nn.Module):
        def forward(self, x: torch.Tensor) -> torch.Tensor:
            return nn.functional.linear(x, x * 2, x[:, 0])

    x = randn(5, 8)
    _, rows = functions(emulated(Net(), x, input="int8", weight="int8(affine)"), x)
    assert all(row.is_equal for row in rows)


def test_a_sparse_and_smoothed_weight_is_a_constant() -> None:
    model, x = nn.Linear(16, 4), randn(6, 16)
    emulated(model, x, input="int8", weight="int8", sparsity="2:4")
    dv.smoothquant(model, [(x,)])
    (function,), (row,) = functions(model, x)
    assert row.is_equal
    assert function.operation.fixed(1) is not None


def test_an_accumulator_that_these_weights_never_overflow_is_left_out() -> None:
    model, x = nn.Linear(4, 2), randn(3, 4)
    fields = {"input": "int4", "weight": "int4", "acc": "int9(saturate)"}
    _, (row,) = functions(emulated(model, x, **fields), x)
    assert row.is_equal


@pytest.mark.parametrize(
    ("fields", "told"),
    [
        ({"acc": "int9(saturate)"}, r"fc \(linear\): acc=int9\(saturate\) saturates at each step"),
        ({"acc": "fp16"}, r"acc=fp16.* rounds at each step.*integer register"),
        ({"input": "int12", "mul": "mitchell(bits=(12, 8))"}, "12 x 8 bits and no exact factors"),
        ({"input": "int8(rounding=Stochastic)"}, "rounds by Stochastic.*NearestTiesToEven"),
        ({"input": "int8(dynamic, po2)"}, "finds its range anew in every batch, and by po2"),
    ],
)
def test_what_cannot_be_exact_is_refused_by_name(fields, told: str) -> None:
    model, x = nn.Sequential(), randn(4, 64)
    model.fc = nn.Linear(64, 3)
    with pytest.raises(dv.DovetailError, match=told):
        functions(emulated(model, x, **{"input": "int8", "weight": "int8", **fields}), x)


@pytest.mark.parametrize(
    ("fields", "told"),
    [
        ({"input": "mxfp8_e4m3", "weight": "mxfp8_e4m3"}, r"\.: products of block formats cannot"),
        ({"input": "bf16", "weight": "bf16", "acc": "fp16"}, "floating-point products summed"),
        (
            {"input": "bf16", "weight": "bf16", "mul": "mitchell(format=bf16)"},
            "a floating-point multiplier cannot be written.*to='golden'",
        ),
    ],
)
def test_products_that_are_not_of_codes_are_refused(fields, told: str) -> None:
    x, y = randn(4, 32), randn(32, 3)
    with pytest.raises(dv.DovetailError, match=told):
        functions(emulated(Product(), x, y, **fields), x, y)
