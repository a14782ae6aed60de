"""Stated errors hold on points that they were not found on; exact functions are those of mpmath."""

from __future__ import annotations

import math
import re
from pathlib import Path

import mpmath
import pytest
import torch
import torch.nn.functional as F

import dovetail as dv
from dovetail.approximations import FUNCTIONS, approximation, function, max_error
from helpers import randn

GOOD = {  # what each is known to reach
    ("poly2", "gelu"): 0.012,
    ("ibert", "gelu"): 0.021,
    ("pwl(16)", "gelu"): 0.013,
    ("pwl(16, spacing=curvature)", "gelu"): 0.004,
    ("pwl(16, fixed(16, 12), domain=(-8, 8))", "gelu"): 0.039,
    ("table(256, int8)", "gelu"): 0.033,
    ("poly3(fp16)", "gelu_tanh"): 0.006,
    ("poly3", "silu"): 0.012,
    ("poly3", "sigmoid"): 0.004,
    ("poly3", "tanh"): 0.008,
    ("poly2", "exp"): 0.0018,
    ("poly2(fp16)", "exp"): 0.004,
    ("base2", "exp"): 0.044,
    ("ibert(12)", "exp"): 0.01,
    ("newton(1)", "reciprocal"): 0.0027,
    ("newton(2)", "rsqrt"): 5e-6,
    ("poly4", "rsqrt"): 0.0022,
    ("isqrt(16)", "rsqrt"): 0.002,
    ("table(64)", "sin"): 0.013,
    ("poly5", "cos"): 1e-5,
}
ROWS = {
    ("poly2(fp16)", "softmax"): 0.003,
    ("base2", "softmax"): 0.03,
    ("softmax(exp=poly3, reciprocal=newton(1))", "softmax"): 0.004,
    ("ibert(12)", "softmax"): 0.003,
    ("newton(1)", "layer_norm"): 0.003,
    ("newton(2, fp16)", "rms_norm"): 0.004,
    ("isqrt(20)", "layer_norm"): 0.001,
    ("norm(variance=moments, format=fp32)", "layer_norm"): 0.01,
}


def points(name: str) -> torch.Tensor:
    low, high = FUNCTIONS[name].domain
    u = torch.rand(20000, generator=torch.Generator().manual_seed(7), dtype=torch.float64)
    if low > 0:
        return torch.exp2(math.log2(low) + (math.log2(high) - math.log2(low)) * u)
    x = torch.cat([low + (high - low) * u, randn(5000).double()])
    return x[(x >= low) & (x <= high)]


@pytest.mark.parametrize(("spelling", "name"), GOOD)
def test_functions_of_one_variable(spelling, name):
    made, x, stated = (
        approximation(spelling),
        points(name),
        max_error(approximation(spelling), name),
    )
    wanted = function(name).exact(x)
    error = (made.evaluate(function(name), x) - wanted).abs()
    assert stated.relative == (name in ("exp", "reciprocal", "rsqrt"))
    worst = float((error / wanted.abs() if stated.relative else error).max())
    assert worst <= stated.value <= 1.2 * GOOD[spelling, name]
    assert worst >= stated.value / 2
    assert re.search(r"x from .* to", repr(stated))


@pytest.mark.parametrize(("spelling", "kind"), ROWS)
def test_rows(spelling, kind):
    made, stated = approximation(spelling), max_error(approximation(spelling), kind)
    rows = randn(300, 48, seed=3).double() * torch.tensor([0.3, 2.0, 7.0]).repeat(100)[:, None]
    attributes = {"dim": -1, "normalized_shape": (48,), "eps": 1e-5}
    y = made.compute(kind, {"input": rows}, attributes)
    wanted = {
        "softmax": lambda: rows.softmax(-1),
        "layer_norm": lambda: F.layer_norm(rows, (48,), eps=1e-5),
        "rms_norm": lambda: F.rms_norm(rows, (48,), eps=1e-5),
    }[kind]()
    size = wanted.abs().amax(-1, keepdim=True) if stated.relative else 1.0
    assert float(((y - wanted).abs() / size).max()) <= stated.value <= ROWS[spelling, kind]


MPMATH = {
    "gelu": lambda x: x * mpmath.ncdf(x),
    "gelu_tanh": lambda x: (
        x / 2 * (1 + mpmath.tanh(mpmath.sqrt(2 / mpmath.pi) * (x + mpmath.mpf("0.044715") * x**3)))
    ),
    "silu": lambda x: x / (1 + mpmath.exp(-x)),
    "quick_gelu": lambda x: x / (1 + mpmath.exp(-mpmath.mpf("1.702") * x)),
    "mish": lambda x: x * mpmath.tanh(mpmath.log(1 + mpmath.exp(x))),
    "softplus": lambda x: mpmath.log(1 + mpmath.exp(x)),
    "sigmoid": lambda x: 1 / (1 + mpmath.exp(-x)),
    "tanh": mpmath.tanh,
    "exp": mpmath.exp,
    "reciprocal": lambda x: 1 / x,
    "rsqrt": lambda x: 1 / mpmath.sqrt(x),
    "sin": mpmath.sin,
    "cos": mpmath.cos,
}


@pytest.mark.parametrize("name", FUNCTIONS)
def test_the_exact_functions(name):
    """What is fitted, and what errors are measured against, is the function itself."""
    with mpmath.workdps(40):
        for x in points(name)[:200].tolist():
            wanted = float(MPMATH[name](mpmath.mpf(x)))
            exact = function(name).exact(torch.tensor([x], dtype=torch.float64)).item()
            assert function(name).value(x) == pytest.approx(wanted, rel=1e-12, abs=1e-14)
            assert exact == pytest.approx(wanted, rel=1e-10, abs=1e-13)


@pytest.mark.parametrize("degree", range(1, 6))
def test_no_polynomial_is_better(degree):
    """De la Vallee Poussin: where degree + 2 errors alternate, the smallest of them is a bound."""
    pieces = approximation(f"poly{degree}").pieces(function("sin"))
    t = torch.linspace(0, 1, 20001, dtype=torch.float64)
    error = (pieces.at(t, dv.approximations.steps.Steps()) - torch.sin(math.pi / 2 * t)).tolist()
    peaks, run = [], [error[0]]
    for e in error[1:]:
        if e * run[-1] < 0:
            peaks.append(max(map(abs, run)))
            run = []
        run.append(e)
    peaks.append(max(map(abs, run)))
    assert len(peaks) >= degree + 2
    held = 1e-7  # coefficients are held as float32 numbers
    assert max(peaks) - sorted(peaks)[-degree - 2] <= 1e-3 * max(peaks) + held


def test_what_has_no_error_to_state():
    with pytest.raises(dv.DovetailError, match="does not compute tanh, but reciprocal, rsqrt"):
        max_error(approximation("newton"), "tanh")
    with pytest.raises(dv.DovetailError, match="softmax does not compute exp alone"):
        max_error(approximation("softmax()"), "exp")
    with pytest.raises(dv.DovetailError, match="does not suit softmax"):
        max_error(approximation("norm()"), "softmax")
    with pytest.raises(dv.DovetailError, match="unknown function 'glu'"):
        max_error(approximation("poly2"), "glu")
    with pytest.raises(dv.DovetailError, match="such as dv"):
        max_error("poly2", "gelu")


@pytest.mark.slow
def test_the_table_in_the_documentation():
    """Every figure that docs/approximations.md states."""
    page = Path(__file__).parents[2] / "docs" / "approximations.md"
    rows = [line for line in page.read_text().splitlines() if line.startswith("| `")]
    header = next(line for line in page.read_text().splitlines() if line.startswith("| fn |"))
    names = [cell.strip() for cell in header.strip("|").split("|")][1:]
    checked = 0
    for line in rows:
        spelling, *cells = (cell.strip() for cell in line.strip("|").split("|"))
        if len(cells) != len(names):
            continue
        for name, cell in zip(names, cells, strict=True):
            if cell != "-":
                stated = max_error(approximation(spelling.strip("`")), name)
                assert f"{stated.value:.2g}" == cell, (spelling, name)
                checked += 1
    assert checked > 60
