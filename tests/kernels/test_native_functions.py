"""The core's approximated functions: bit for bit the torch forms, which are tested against the
reference, on every level."""

from __future__ import annotations

import functools
import math
from collections.abc import Iterator

import pytest
import torch

from dovetail.approximations import Norm, Softmax, approximation, function
from dovetail.approximations.door import NormOf
from dovetail.approximations.units import Table
from dovetail.formats import format as to_format
from dovetail.kernels import native
from dovetail.kernels.function_structs import rounding_of
from dovetail.kernels.function_units import unit_of
from dovetail.kernels.native_functions import _compute, computes
from function_cases import EDGES, computable
from helpers import randn

pytestmark = pytest.mark.skipif(not native.available(), reason="needs the native core")

UNARY = [
    "poly1",
    "poly8",
    "poly2(fp16)",
    "poly3(bf16)",
    "poly4(fixed(16, 12))",
    "poly5(fp32)",
    "poly3(fp8_e4m3)",
    "poly3(fp8_e5m2(saturation=SatPropagate))",
    "pwl(16)",
    "pwl(7, fixed(16, 12))",
    "pwl(16, fp16, spacing=curvature)",
    "pwl(1, bf16)",
    "pwl(2)",
    "pwl(8)",
    "pwl(9)",
    "pwl(17)",
    "pwl(33, spacing=curvature)",
    "table(256)",
    "table(2)",
    "table(3, fp8_e4m3)",
    "base2(fp16)",
    "newton(0)",
    "newton(1)",
    "newton(2, fp16)",
    "newton(1, bf16)",
    "isqrt",
    "isqrt(4, fp16)",
    "ibert",
    "ibert(12)",
    "pwl(16, domain=(-8, 8))",
]
_POWERS = [2.0**k for k in range(-160, 160, 7)]
_POWERS += [1.79e308, 2.0**52, 2.0**53 + 2, 2.0**51 + 0.5, 448.0]


@functools.cache
def points() -> torch.Tensor:
    powers = torch.tensor(_POWERS, dtype=torch.float64)
    ends = torch.cat([EDGES, powers, -powers])
    near = [torch.nextafter(ends, torch.full_like(ends, to)) for to in (-9.0, 9.0)]
    patterns = randn(2000, seed=3).view(torch.int32).to(torch.int64) * 7919 * 65537
    dense = torch.linspace(-9, 9, 3001, dtype=torch.float64)
    inner = torch.arange(-640, 641, dtype=torch.float64) / 64  # where pieces begin
    return torch.cat([ends, *near, patterns.view(torch.float64), dense, inner, 4 * randn(999)])


def same(got: torch.Tensor, wanted: torch.Tensor) -> None:
    assert got.dtype == wanted.dtype
    assert got.shape == wanted.shape
    assert torch.equal(got.isnan(), wanted.isnan())
    integer = {8: torch.int64, 4: torch.int32, 2: torch.int16}[got.element_size()]
    a, b = (torch.where(t.isnan(), 0.0, t).contiguous().view(integer) for t in (got, wanted))
    assert torch.equal(a, b), (got[a != b][:4], wanted[a != b][:4])


@pytest.fixture(autouse=True)
def _best_level_afterwards() -> Iterator[None]:
    yield
    native.set_isa(None)


def on_every_level(made, given: torch.Tensor, known, wanted: torch.Tensor) -> None:
    for level in native.levels():
        native.set_isa(level)
        same(_compute(made, given, known), wanted)


@pytest.mark.parametrize("spelling", UNARY)
def test_functions_of_one_variable(spelling):
    made, x = approximation(spelling), points()
    for name in computable(spelling):
        for dtype in (torch.float64, torch.float32, torch.float16):
            given, known = x.to(dtype), function(name)
            on_every_level(made, given, known, made._of(known, given))


@pytest.mark.parametrize("count", [0, 1, 3, 8, 1023, 1025, 40000])
def test_sizes_strides_and_threads(count):
    made, known = approximation("pwl(16)"), function("gelu")
    x = 3 * randn(count, 2)
    for given in (x, x[:, 0], x.T, x[::2]):
        same(_compute(made, given, known), made._of(known, given))
    before = torch.get_num_threads()
    torch.set_num_threads(1)
    alone = _compute(made, x, known)
    torch.set_num_threads(before)
    same(alone, _compute(made, x, known))


SOFTMAX = [
    "softmax(exp=poly2)",
    "softmax(exp=poly2(fp16), format=fp16)",
    "softmax(exp=poly2(fp16), reciprocal=newton(1, fp16), format=fp16, acc=fp32)",
    "softmax(exp=base2, reciprocal=table(64), clamp=-8)",
    "softmax(exp=pwl(4), largest=keep, format=bf16)",
    "softmax(exp=ibert(6), reciprocal=pwl(8), format=fixed(24, 16))",
    "softmax(exp=table(32, int8), reciprocal=poly3, clamp=-4, acc=fixed(32, 20))",
    "softmax(exp=poly3, format=fp8_e4m3(saturation=SatNone))",
]
COUNTS = [1, 2, 3, 7, 8, 9, 16, 31, 1025]


def rows_of(count: int, spread: float, dtype: torch.dtype) -> torch.Tensor:
    rows = (spread * randn(24, count, seed=count)).to(dtype)
    low = torch.finfo(dtype).min
    rows[1, 0], rows[2, -1], rows[3], rows[4, 0] = math.nan, math.inf, -math.inf, -math.inf
    rows[5, 0], rows[6], rows[7], rows[8, -1] = low, low, 0.0, low / 2
    rows[9], rows[10, 0], rows[11] = -1000.0, 700.0, 100.0
    return rows


@pytest.mark.parametrize("spelling", SOFTMAX)
def test_softmax(spelling):
    made = approximation(spelling)
    assert isinstance(made, Softmax)
    for count in COUNTS:
        for dtype in (torch.float64, torch.float32, torch.bfloat16):
            rows = rows_of(count, 3.0, dtype)
            on_every_level(made, rows, None, made._rows(rows))


NORM = [
    "norm()",
    "norm(rsqrt=newton(1))",
    "norm(rsqrt=newton(2, fp16), format=fp16, acc=fp32)",
    "norm(variance=moments, format=bf16)",
    "norm(rsqrt=isqrt(10), scale=0.125, format=fp16)",
    "norm(rsqrt=pwl(8), variance=moments, scale=3)",
    "norm(rsqrt=table(64, int8), format=fixed(24, 12))",
    "norm(rsqrt=newton, format=fp32, acc=fp32)",
]


@pytest.mark.parametrize("spelling", NORM)
@pytest.mark.parametrize("centred", [True, False])
def test_norms(spelling, centred):
    made = approximation(spelling)
    assert isinstance(made, Norm)
    for count in COUNTS:
        weight, bias = (randn(count, seed=s).double() for s in (1, 2))
        for of in (NormOf(centred, 1e-5, weight, bias), NormOf(centred, 1e-3, None, None)):
            for dtype in (torch.float64, torch.float32, torch.float16):
                rows = rows_of(count, 2.0, dtype)
                on_every_level(made, rows, of, made._whole(rows, of))


@pytest.mark.parametrize(("kind", "spelling"), [("softmax", "poly2"), ("layer_norm", "newton")])
def test_rows_do_not_depend_on_threads_or_on_each_other(kind, spelling):
    x = 3 * randn(300, 197)
    attributes = {"dim": -1, "normalized_shape": (197,), "eps": 1e-5}
    made = approximation(spelling)
    whole = made.compute(kind, {"input": x}, attributes)
    before = torch.get_num_threads()
    torch.set_num_threads(1)
    same(made.compute(kind, {"input": x}, attributes), whole)
    torch.set_num_threads(before)
    same(made.compute(kind, {"input": x[7:8]}, attributes)[0], whole[7])


def test_flushing_subnormal_numbers_changes_nothing():
    made, x = approximation("poly2(fp16)"), torch.tensor([1e-40, -17.0, 2.0**-24, -0.5])
    plain = made.compute("exp", {"input": x}, {})
    torch.set_flush_denormal(True)
    try:
        flushed = _compute(made, x, function("exp"))
    finally:
        torch.set_flush_denormal(False)
    same(flushed, plain)


def test_what_the_core_does_not_compute_is_left_to_torch():
    posit = approximation("poly2(posit(16, 1))")
    assert not computes(posit, "gelu")
    assert not computes(posit, "softmax")
    assert computes(approximation("poly2(fp16)"), "softmax")
    assert not computes(approximation("softmax(format=fp16)"), "softmax")
    assert computes(approximation("norm(format=fp16)"), "layer_norm")
    x = torch.linspace(-3, 3, 7)
    same(posit.compute("gelu", {"input": x}, {}), posit._of(function("gelu"), x))
    for odd in ("fp16(rounding=TowardZero)", "fixed(8, 4, clamp=False)", "float(e=5, m=0)"):
        assert rounding_of(to_format(odd)) is None


def test_an_own_unit_is_not_taken_for_the_one_that_it_extends():
    class Doubled(Table):
        def evaluate(self, function, x):
            return 2 * super().evaluate(function, x)

    class Tripled(type(approximation("newton"))):
        def evaluate(self, function, x):
            return 3 * super().evaluate(function, x)

    assert unit_of(Doubled(64), "tanh") is None
    assert unit_of(Tripled(1), "rsqrt") is None


def test_unevenly_rounded_starts_are_searched():
    """In fixed(8, 2) steps are coarse: starts are no longer where a guess would have them."""
    made, x = approximation("pwl(10, fixed(8, 2), domain=(-1, 1))"), points()
    coarse, even = (unit_of(m, "gelu") for m in (made, approximation("pwl(10)")))
    assert coarse is not None
    assert even is not None
    assert coarse.struct.steepness == 0
    assert even.struct.steepness > 0
    same(_compute(made, x, function("gelu")), made._of(function("gelu"), x))
