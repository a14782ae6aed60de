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
from dovetail.multipliers.float_structure import structure_of
from dovetail.multipliers.floating import FloatMultiplier, float_multiplier, within

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
    found = float_multiplier(fmt, output=fmt)(np.array(values)[:, None], np.array(values)[None])
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
    found = torch.from_numpy(float_multiplier(name, output=name)(a, w))
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
        (2.0**-133, 1.5, 1.5 * 2.0**-133),  # a subnormal of bf16, not of float32
        (3 * 2.0**-100, 1.5 * 2.0**-49, 2.0**-147),  # 2 and a half units: 2 * 1.5**2 is 4
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
    assert float_multiplier("fp8_e4m3fn")(top, 2.0) == 896
    assert float_multiplier("fp8_e4m3fn", output="fp8_e4m3fn")(top, 2.0) == 448
    assert math.isnan(float_multiplier("fp8_e4m3fn")(math.nan, 2.0))
    plain, saturating = (dv.format(f"fp8_e5m2{s}") for s in ("(saturation=SatNone)", ""))
    assert float_multiplier("fp8_e5m2", output=plain)(57344.0, -2.0) == -math.inf
    assert float_multiplier("fp8_e5m2", output=saturating)(math.inf, -2.0) == -57344


def test_subnormals_are_normalised_and_results_rounded_once():
    m = dm.multiplier("mitchell", format="fp16")
    # 3 * 2**-24 is 1.5 * 2**-23: Mitchell's square of it at an exponent where it is exact is 2.
    assert m(3 * 2.0**-24, 1.5 * 2.0**10) == 2.0 * 2.0**-23 * 2.0**10
    flushing = "float(e=5, m=10, subnormals=False)"
    flushed = float_multiplier(flushing, output=flushing)
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


def test_products_are_kept_whole_unless_told_otherwise():
    a = torch.randn(2, 300, generator=torch.Generator().manual_seed(0)).bfloat16()
    found = float_multiplier("bf16")(a[0], a[1])
    assert np.array_equal(found, (a[0].double() * a[1].double()).numpy())


def test_mitchell_underestimates_by_at_most_a_ninth():
    m = dm.multiplier("mitchell", format="fp16")
    a, w = (torch.rand(2, 4000, generator=torch.Generator().manual_seed(1)) + 1).half()
    ratio = m(a, w) / (a.double() * w.double()).numpy()
    assert ratio.max() <= 1 + 2.0**-11
    assert ratio.min() >= 8 / 9 - 2.0**-11


@pytest.mark.parametrize("m", [1, 2, 3, 4, 5, 7, 10])
def test_l_mul_is_the_addition_of_bit_patterns(m):
    """The paper's program: patterns added, less that of 1, plus the offset."""
    fmt = dv.format(f"float(e=5, m={m})")
    values = torch.tensor([1 + x / 2**m for x in range(2**m)])[:: max(1, 2**m // 64)]
    offset = {1: 1, 2: 2, 3: 3, 4: 3}.get(m, 4)
    patterns = values.view(torch.int32)
    added = patterns[:, None] + patterns[None] - 0x3F800000 + (1 << 23 - offset)
    wanted = added.view(torch.float32).double().numpy()
    assert np.array_equal(dm.multiplier("l_mul", format=fmt)(values[:, None], values[None]), wanted)
    assert dm.multiplier("l_mul", format=fmt).mantissa.offset == offset


def test_l_mul_of_integers():
    m = dm.multiplier("l_mul", bits=8)
    # 96 = 2**6 * 1.5: .5 + .5 + 1/16 carries, 2**13 * (1 + 1/16).
    assert m([96, -96, 0, 3], [96, 96, 5, 0]).tolist() == [8704, -8704, 0, 0]
    assert dm.multiplier(repr(m)) == m
    assert m.max_abs == int(np.abs(m.table().numpy()).max())
    assert dm.multiplier("l_mul", bits=12).max_abs >= int(m.table().max())


@pytest.mark.parametrize(
    ("spec", "form"),
    [
        ("exact(format=bf16)", "values"),
        ("drum(k=4, format=fp16)", "values"),
        ("truncate(drop_first=3, drop_second=1, format=bf16)", "values"),
        ("mitchell(format=fp16)", "logarithms"),
        ("l_mul(format=fp8_e4m3fn)", "logarithms"),
        ("alm(adder=loa, m=1, format=bf16)", "table"),
        ("mbm(format=bf16)", "table"),
        ("mitchell(format=float(e=5, m=12))", "function"),
    ],
)
def test_structure_is_found(spec, form):
    m = dm.multiplier(spec)
    found = structure_of(m)
    assert found.form == m.explain().form == form
    if found.table is None:
        return
    x = np.arange(1 << m.format.mantissa)
    assert np.array_equal(found.table, m.products(x[:, None], x[None]))
    assert found.largest == found.table.max()
    if found.factors is not None:
        assert np.array_equal(np.multiply.outer(*found.factors), found.table)


def test_structure_of_odd_tables():
    def form(table):
        return structure_of(float_multiplier("float(e=4, m=1)", np.array(table))).form

    assert form([[0, 0], [0, 0]]) == "table"
    assert form([[0, 0], [0, 5]]) == "values"
    assert form([[6, 4], [3, 2]]) == "values"
    assert form([[6, 4], [3, 3]]) == "table"
    assert form([[4, 6], [6, 8]]) == "logarithms"
    assert form([[6, 8], [8, 12]]) == "logarithms"


def test_errors():
    errors = dm.multiplier("mitchell", format="bf16").errors()
    x = 1 + np.arange(128) / 128
    s = np.add.outer(x, x) - 2
    relative = np.where(s < 1, 1 + s, 2 * s) / np.multiply.outer(x, x) - 1
    assert errors.worst == pytest.approx(1 / 9)
    assert errors.mred == pytest.approx(-relative.mean()) == -errors.bias
    assert errors.ep == (relative != 0).mean()
    halved = float_multiplier("fp8_e5m2", output="float(e=3, m=2, saturation=SatNone)").errors()
    assert 0 < halved.overflow < halved.ep < 1
    assert math.isfinite(halved.mred)
    assert dm.multiplier("mitchell(format=float(e=5, m=12))").errors().worst < 1 / 9 + 1e-6


def test_formats_within():
    def ok(narrow, wide):
        return within(dv.format(narrow), dv.format(wide))

    for name in NAMES[:6]:
        assert ok(name, "bf16")
        assert set(values_of(dv.format(name))) <= set(values_of(dv.format("bf16")))
    assert ok("fp8_e5m2", "fp16")
    assert not ok("bf16", "fp16")
    assert not ok("fp16", "bf16")
    assert not ok("fp8_e5m2", "fp8_e4m3fn")
    assert not ok("fp8_e4m3fn", "float(e=4, m=3, subnormals=False, specials=fn)")
    assert ok("float(e=4, m=3, subnormals=False, specials=fn)", "fp8_e4m3fn")
    assert not ok("fp8_e5m2", "float(e=5, m=2, specials=finite)")


@pytest.mark.parametrize(
    "made",
    [
        lambda: float_multiplier("bf16", "mitchell"),
        lambda: float_multiplier("bf16", np.arange(128 * 128).reshape(128, 128)),
        lambda: float_multiplier("bf16", "array(mask=0x1234, bits=7, signed=False)"),
        lambda: dm.multiplier("l_mul(format=float(e=4, m=3))"),
        lambda: dm.multiplier("l_mul", offset=2, format="fp16", output="bf16"),
        lambda: float_multiplier("fp16(rounding=ToOdd)", "drum(k=4)", output="bf16"),
        lambda: dm.multiplier("drum", format="fp8_e4m3fn", k=3),
        lambda: dm.multiplier("drum(k=3)", format="fp8_e5m2"),
    ],
)
def test_the_spelling_reads_back(made):
    m = made()
    assert isinstance(m, FloatMultiplier)
    assert dm.multiplier(repr(m)) == m
    assert hash(dm.multiplier(repr(m))) == hash(m)
    assert dv.multiplier(m) is m


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
        (lambda: dv.multiplier(float_multiplier("bf16"), bits=8), "is complete and takes no bits"),
        (lambda: dv.multiplier("float_multiplier(bf16, bits=8)"), "unexpected keyword argument"),
        (lambda: dv.multiplier("drum(q=1, format=bf16)"), "parameters: .k=6"),
        (lambda: dv.multiplier("l_mul(offset=9, format=bf16)"), "a whole number from 1 to 7"),
        (lambda: dv.multiplier("l_mul(format=fp4_e2m1fn, output=float(e=8, m=30))"), "fit float32"),
        (lambda: dv.multiplier("l_mul(format=e8m0fnu)"), "has no zero"),
        (lambda: float_multiplier("bf16", "exact", output="int8"), "is not a floating-point"),
    ],
)
def test_refusals(make, message):
    with pytest.raises(DovetailError, match=message):
        make()
