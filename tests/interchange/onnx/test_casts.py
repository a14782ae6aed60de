"""Casts in ONNX operators: bit for bit those of the library, special values included."""

from __future__ import annotations

import pytest
import torch
from torch import nn

import dovetail as dv
from helpers import randn
from onnx_functions import Cast, functions, operators

FORMATS = (
    "bf16",
    "bf16(saturation=SatFinite)",
    "fp16",
    "fp16(saturation=SatFinite)",
    "fp8_e4m3",
    "fp8_e4m3(saturation=SatNone)",
    "fp8_e5m2(saturation=SatNone)",
    "fp8_e5m2(saturation=SatPropagate)",
    "fp8_e4m3fnuz",
    "fp6_e2m3fn",
    "fp4_e2m1fn",
    "float(e=5, m=6, subnormals=False)",
    "float(e=7, m=3, bias=40, specials=finite)",
    "fixed(8, 4)",
    "fixed(8, 4, symmetric=True)",
    "fixed(12, 6, clamp=False)",
    "int8",
    "int8(affine)",
    "int5(channel=1)",
)
ROUNDINGS = ("NearestTiesToAway", "TowardZero", "TowardPositive", "TowardNegative", "ToOdd")


def check(fmt: str, x: torch.Tensor, **options) -> None:
    found, rows = functions(Cast(fmt, **options), x)
    assert len(found) == 1
    assert rows[0].is_equal, rows


@pytest.mark.parametrize("fmt", FORMATS)
def test_a_cast_has_the_bits_of_the_library(fmt: str) -> None:
    values = torch.cat([randn(300), randn(300, seed=1) * 2.0**9, randn(300, seed=2) * 2.0**-9])
    check(fmt, values.reshape(30, 30))


@pytest.mark.parametrize("rounding", ROUNDINGS)
@pytest.mark.parametrize(
    "fmt", ["fp8_e4m3", "fp8_e5m2(saturation=SatNone)", "fixed(8, 4)", "int8(affine)"]
)
def test_a_cast_rounds_as_it_is_told(fmt: str, rounding: str) -> None:
    word = f"{fmt[:-1]}, rounding={rounding})" if "(" in fmt else f"{fmt}(rounding={rounding})"
    check(word, torch.cat([randn(500), torch.arange(-40, 40) / 32, randn(100, seed=1) * 300]))


def test_a_given_scale_and_zero_point() -> None:
    scale, zero = torch.tensor([0.5, 0.25]), torch.tensor([3, -2])
    check("int8(affine)", randn(2, 60), scale=scale, zero_point=zero, channel=0)


@pytest.mark.parametrize("dtype", [torch.float16, torch.bfloat16])
def test_values_in_half_precision(dtype: torch.dtype) -> None:
    check("fp8_e4m3", randn(200).to(dtype))
    check("int8", randn(200).to(dtype))


def test_two_casts_are_enough_for_bfloat16() -> None:
    (function,), _ = functions(Cast("bf16"), randn(8))
    assert operators(function) == {"Cast"}


@pytest.mark.parametrize(
    ("fmt", "told"),
    [
        ("posit(8,1)", r"cast to 'posit.*there are no ONNX operators for it; the nearest"),
        ("tf32", "its steps leave the normal numbers of float32"),
        ("fixed(32, 4)", "of fixed point up to 24 bits"),
        ("int8(group=4)", "has a scale per group.*'int8'"),
        ("fp8_e4m3(rounding=Stochastic)", "rounds by Stochastic"),
        ("e8m0fnu", "those with a sign and a mantissa"),
    ],
)
def test_what_cannot_be_exact_is_refused(fmt: str, told: str) -> None:
    with pytest.raises(dv.DovetailError, match=told):
        functions(Cast(fmt), randn(4, 8))


@pytest.mark.parametrize("fmt", ["bf16", "fp16", "tf32", "fp8_e4m3", "fixed(8, 4)", "int8(affine)"])
def test_values_in_double_precision_are_rounded_once(fmt: str) -> None:
    near = 1 + torch.arange(64).double() / 2**7  # halfway between neighbours of bf16, and beside
    values = torch.cat([randn(200).double(), near, near + 2.0**-40, near - 2.0**-40])
    options = {"scale": 0.03, "zero_point": 5} if fmt.startswith("int8") else {}
    check(fmt, values, **options)


def test_a_range_of_double_precision_is_refused() -> None:
    with pytest.raises(dv.DovetailError, match="range of float64 values anew in every batch"):
        functions(Cast("int8"), randn(8).double())


def test_a_scale_computed_from_the_input_is_refused() -> None:
    class Own(nn.Module):
        def forward(self, x: torch.Tensor) -> torch.Tensor:
            return dv.cast(x, "int8", scale=x.abs().amax() / 100)

    with pytest.raises(dv.DovetailError, match=r"the scale of its 'int8' is computed from the in"):
        functions(Own(), randn(8))
