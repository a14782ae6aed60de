"""Floating-point multipliers: exact but for the significands, against exact arithmetic."""

from __future__ import annotations

import math
from fractions import Fraction

import numpy as np
import pytest
import torch

import dovetail as dv
import dovetail.multipliers as dm
from dovetail.errors import DovetailError
from dovetail.formats.reference import round_value
from dovetail.formats.values import values_of
from dovetail.multipliers.floating import FloatMultiplier, float_multiplier

NAMES = ["fp8_e4m3fn", "fp8_e5m2", "fp8_e4m3fnuz", "fp8_e5m2fnuz", "fp6_e3m2fn", "fp4_e2m1fn"]
NAMES += ["float(e=4, m=2)", "float(e=3, m=3, subnormals=False)", "float(e=5, m=0)"]
NAMES += ["fp8_e5m2(saturation=SatNone)", "fp8_e4m3fn(rounding=TowardZero)"]


def same(found: float, wanted: float) -> bool:
    if math.isnan(wanted):
        return math.isnan(found)
    return found == wanted and math.copysign(1, found) == math.copysign(1, wanted)


@pytest.mark.parametrize("name", NAMES)
def test_the_exact_mantissa_gives_the_rounded_exact_product(name):
    fmt = dv.format(name)
    values = values_of(fmt)[:: 1 if fmt.bits < 8 else 3] + values_of(fmt)[-3:]
    found = float_multiplier(fmt)(np.array(values)[:, None], np.array(values)[None])
    for i, a in enumerate(values):
        for j, w in enumerate(values):
            product = Fraction(a) * Fraction(w)
            if product:
                wanted = round_value(product, fmt)
            else:
                wanted = round_value(math.copysign(0.0, a) * math.copysign(1.0, w), fmt)
            negative_zero = wanted == 0 and (a < 0) != (w < 0) and fmt.has_negative_zero
            assert same(found[i, j], -0.0 if negative_zero else wanted), (a, w)


@pytest.mark.parametrize(("name", "dtype"), [("bf16", torch.bfloat16), ("fp16", torch.float16)])
def test_sixteen_bits_as_torch_multiplies_them(name, dtype):
    bits = torch.randint(-(2**15), 2**15, (2, 20000), generator=torch.Generator().manual_seed(0))
    a, w = bits.to(torch.int16).view(dtype)
    found = torch.from_numpy(float_multiplier(name)(a, w))
    assert torch.equal(found.to(dtype).isnan(), (a * w).isnan())
    wanted = (a * w).double()
    kept = ~wanted.isnan()
    assert torch.equal(found[kept], wanted[kept])
    assert torch.equal(torch.signbit(found[kept]), torch.signbit(wanted[kept]))


@pytest.mark.parametrize(
    ("a", "w", "product"),
    [
        (1.5, 1.5, 2.0),  # Mitchell: x + y = 1, so 2 * 1
        (3.0, -1.25, -3.5),  # 2 * (1 + .5 + .25)
        (-1.75, -1.75, 3.0),  # 2 * 1.5
        (2.0**-133, 1.5, 2.0**-132),  # a subnormal: 1.5 units, a tie, to even: 2
        (2.0**127, 2.0, math.inf),
        (2.0**-100, 2.0**-100, 0.0),
        (-(2.0**-100), 2.0**-100, -0.0),
        (0.0, -5.0, -0.0),
        (math.inf, -0.5, -math.inf),
        (math.inf, 0.0, math.nan),
        (math.nan, 1.0, math.nan),
    ],
)
def test_bf16_with_mitchells_mantissa_by_hand(a, w, product):
    m = dm.multiplier("mitchell", format="bf16")
    assert same(float(m(a, w)), product)
    assert same(float(m(w, a)), product)


def test_overflow_and_infinity_follow_the_format():
    top = dv.format("fp8_e4m3fn").max
    assert float_multiplier("fp8_e4m3fn")(top, 2.0) == 448
    assert math.isnan(float_multiplier("fp8_e4m3fn")(math.nan, 2.0))
    assert float_multiplier("fp8_e5m2(saturation=SatNone)")(57344.0, -2.0) == -math.inf
    assert float_multiplier("fp8_e5m2")(math.inf, -2.0) == -57344  # it saturates


def test_subnormals_are_normalised_and_results_rounded_once():
    m = dm.multiplier("mitchell", format="fp16")
    # 3 * 2**-24 is 1.5 * 2**-23: Mitchell's square of it at an exponent where it is exact is 2.
    assert m(3 * 2.0**-24, 1.5 * 2.0**10) == 2.0 * 2.0**-23 * 2.0**10
    flushed = float_multiplier("float(e=5, m=10, subnormals=False)")
    assert flushed(2.0**-14, 0.5) == 0
    assert flushed(2.0**-14, 1.5) == 1.5 * 2.0**-14


def test_tables_and_functions_of_significands():
    fractions = np.arange(128)
    table = (128 + fractions[:, None]) * (128 + fractions[None])
    rng = np.random.default_rng(0)
    a, w = rng.integers(-255, 256, (2, 500)) * 2.0 ** rng.integers(-20, 20, (2, 500))
    exact = float_multiplier("bf16")(a, w)
    for mantissa in (table, lambda x, y: x * y, dm.multiplier("exact(bits=8, signed=False)")):
        assert np.array_equal(float_multiplier("bf16", mantissa)(a, w), exact)
    doubled = float_multiplier("bf16", table * 2)
    assert np.array_equal(doubled(a, w), exact * 2)


def test_another_output_format_keeps_the_whole_product():
    a = torch.randn(2, 300, generator=torch.Generator().manual_seed(0)).bfloat16()
    found = float_multiplier("bf16", output="float(e=8, m=15)")(a[0], a[1])
    assert np.array_equal(found, (a[0].double() * a[1].double()).numpy())


def test_mitchell_underestimates_by_at_most_a_ninth():
    m = dm.multiplier("mitchell", format="fp16")
    a, w = (torch.rand(2, 4000, generator=torch.Generator().manual_seed(1)) + 1).half()
    ratio = m(a, w) / (a.double() * w.double()).numpy()
    assert ratio.max() <= 1 + 2.0**-11
    assert ratio.min() >= 8 / 9 - 2.0**-11


@pytest.mark.parametrize(
    "made",
    [
        lambda: float_multiplier("bf16", "mitchell"),
        lambda: float_multiplier("fp16(rounding=ToOdd)", "drum(k=4)", output="bf16"),
        lambda: dm.multiplier("drum", format="fp8_e4m3fn", k=3),
        lambda: dm.multiplier("drum(k=3)", format="fp8_e5m2"),
    ],
)
def test_the_spelling_reads_back(made):
    m = made()
    assert isinstance(m, FloatMultiplier)
    assert float_multiplier(repr(m)) == m
    assert hash(float_multiplier(repr(m))) == hash(m)


@pytest.mark.parametrize(
    ("make", "message"),
    [
        (lambda: float_multiplier("int8"), "is not a floating-point format"),
        (lambda: float_multiplier("fp32"), "is too wide"),
        (lambda: float_multiplier("bf16(rounding=Stochastic)"), "a product has one value"),
        (lambda: float_multiplier("bf16", "mul8s_1KV9"), "significands of 8 bits; give an unsig"),
        (lambda: float_multiplier("fp16", "mul8u_1JJQ"), "significands of 11 bits"),
        (lambda: float_multiplier("bf16")(1.001, 1.0), "which is no value of 'bf16'; the nearest"),
        (lambda: float_multiplier("fp8_e4m3fn")(math.inf, 1.0), "holds inf, which is no value"),
        (lambda: float_multiplier("bf16", lambda a, w: -a * w)(1.0, 1.0), "which are positive"),
        (lambda: dm.multiplier([[0, 0], [0, 1]], format="bf16", bits=8), "takes a family with its"),
        (lambda: dv.multiplier(float_multiplier("bf16")), "there are no kernels"),
        (
            lambda: dv.rule("*", input="bf16", weight="bf16", mul=float_multiplier("bf16")),
            "there are no kernels",
        ),
    ],
)
def test_refusals(make, message):
    with pytest.raises(DovetailError, match=message):
        make()
