"""The torch forms compute what the reference defines, bit for bit."""

from __future__ import annotations

import math

import pytest
import torch

from dovetail.approximations import FUNCTIONS, approximation, function, reference
from function_cases import EDGES, computable
from helpers import randn

UNARY = [
    "poly1",
    "poly2(fp16)",
    "poly3(bf16)",
    "poly4(fixed(16, 12))",
    "poly5(fp32)",
    "poly2(posit(16, 1))",
    "pwl(16)",
    "pwl(7, fixed(16, 12))",
    "pwl(16, fp16, spacing=curvature)",
    "pwl(1, bf16)",
    "table(256)",
    "table(256, int8)",
    "table(3, fp8_e4m3)",
    "base2",
    "base2(fp16)",
    "newton(0)",
    "newton(1)",
    "newton(2, fp16)",
    "newton(1, bf16)",
    "isqrt",
    "isqrt(4, fp16)",
    "ibert",
    "ibert(4)",
]
BOUNDED = ["pwl(16, fixed(16, 12), domain=(-8, 8))", "table(64, domain=(-1, 3))"]


def same(got: torch.Tensor, wanted: list[float]) -> None:
    """Bit for bit; all NaN are alike."""
    theirs = torch.tensor(wanted, dtype=torch.float64).reshape(got.shape)
    assert torch.equal(got.isnan(), theirs.isnan())
    a, b = (t.nan_to_num(nan=0.0).view(torch.int64) for t in (got.double(), theirs))
    assert torch.equal(a, b), (got[a != b][:4], theirs[a != b][:4])


def points(name: str) -> torch.Tensor:
    low, high = FUNCTIONS[name].domain
    inner = torch.linspace(low, high, 41, dtype=torch.float64)
    return torch.cat([EDGES, inner, 4 * randn(61).double()])


@pytest.mark.parametrize("spelling", UNARY + BOUNDED)
def test_functions_of_one_variable(spelling):
    made = approximation(spelling)
    for name in computable(spelling):
        x = points(name)
        wanted = [reference.evaluate(made, name, float(v)) for v in x]
        same(made.evaluate(function(name), x), wanted)
        same(made.evaluate(function(name), x.reshape(2, -1).T.contiguous().T).flatten(), wanted)


def test_every_function_is_computed_by_something():
    assert {name for spelling in UNARY for name in computable(spelling)} == set(FUNCTIONS)


SOFTMAX = [
    "softmax()",
    "softmax(exp=poly2(fp16), format=fp16)",
    "softmax(exp=poly2(fp16), reciprocal=newton(1, fp16), format=fp16, acc=fp32)",
    "softmax(exp=base2, reciprocal=table(64), clamp=-8)",
    "softmax(exp=pwl(4), largest=keep, format=bf16)",
    "softmax(exp=ibert(6), reciprocal=pwl(8), format=fixed(24, 16))",
    "softmax(exp=table(32, int8), reciprocal=poly3, clamp=-4, acc=fixed(32, 20))",
]


@pytest.mark.parametrize("spelling", SOFTMAX)
@pytest.mark.parametrize("count", [1, 2, 3, 7, 16])
def test_softmax(spelling, count):
    made, lowest = approximation(spelling), torch.finfo(torch.float64).min
    rows = 3 * randn(20, count, seed=count).double()
    rows[1, 0], rows[2, -1], rows[3], rows[4, 0] = math.nan, math.inf, -math.inf, -math.inf
    rows[5, 0], rows[6], rows[7] = lowest, lowest, 0.0
    got = made.compute("softmax", {"input": rows}, {"dim": -1})
    for row, y in zip(rows, got, strict=True):
        if made.exp is None and made.largest == "subtract":  # torch's exp may differ in a last bit
            theirs = reference.softmax_row(made, row.tolist(), lowest)
            torch.testing.assert_close(
                y, torch.tensor(theirs, dtype=torch.float64), rtol=1e-14, atol=0, equal_nan=True
            )
        else:
            same(y, reference.softmax_row(made, row.tolist(), lowest))


@pytest.mark.parametrize("spelling", [s for s in SOFTMAX if "reciprocal" not in s])
@pytest.mark.parametrize("count", [1, 3, 16])
def test_log_softmax(spelling, count):
    """The logarithm is torch's, and may differ from Python's in a last bit."""
    made, lowest = approximation(spelling), torch.finfo(torch.float64).min
    rows = 3 * randn(20, count, seed=count).double()
    rows[1, 0], rows[2, -1], rows[3], rows[4, 0] = math.nan, math.inf, -math.inf, -math.inf
    rows[5, 0], rows[7] = lowest, 0.0
    got = made.compute("log_softmax", {"input": rows}, {"dim": -1})
    for row, y in zip(rows, got, strict=True):
        wanted = reference.softmax_row(made, row.tolist(), lowest, logarithms=True)
        step = 2.0**-7 if made.format is not None else 1e-14
        torch.testing.assert_close(
            y, torch.tensor(wanted, dtype=torch.float64), rtol=step, atol=1e-14, equal_nan=True
        )


NORM = [
    "norm()",
    "norm(rsqrt=newton(1))",
    "norm(rsqrt=newton(2, fp16), format=fp16, acc=fp32)",
    "norm(variance=moments, format=bf16)",
    "norm(rsqrt=isqrt(10), scale=0.125, format=fp16)",
    "norm(rsqrt=pwl(8), variance=moments, scale=3)",
    "norm(rsqrt=table(64, int8), format=fixed(24, 12))",
]


@pytest.mark.parametrize("spelling", NORM)
@pytest.mark.parametrize("kind", ["layer_norm", "rms_norm"])
@pytest.mark.parametrize("count", [1, 2, 5, 16])
def test_norms(spelling, kind, count):
    made = approximation(spelling)
    rows = 2 * randn(12, count, seed=count).double() + 1
    rows[1, 0], rows[2, -1], rows[3], rows[4] = math.nan, math.inf, 0.0, 100.0
    attributes = {"normalized_shape": (count,), "eps": 1e-3}
    got = made.compute(kind, {"input": rows}, attributes)
    for row, y in zip(rows, got, strict=True):
        same(y, reference.norm_row(made, row.tolist(), 1e-3, kind == "layer_norm"))
