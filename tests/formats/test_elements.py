"""Fixed point, posit, logarithmic and table formats: by hand and by what must always hold."""

import math
from fractions import Fraction

import pytest
import torch
from hypothesis import given
from hypothesis import strategies as st

from dovetail import cast, format
from dovetail.formats import reference
from dovetail.formats.codebook import book_of
from dovetail.formats.posit import decode_posit
from dovetail.formats.values import values_of
from format_oracles import hostile, same_bits

NAN, INF = math.nan, math.inf


@pytest.mark.parametrize(
    ("spelling", "x", "y"),
    [
        ("XP[8,0](CSN)", [0.5, 1.5, 2.5, -1.5, 127.5], [0, 2, 2, -2, 127]),
        ("XP[8,0](CSN)", [-128, INF, -INF, 0.5000001], [-127, 127, -127, 1]),
        ("XP[8,0](C_N)", [-128.5, -128, 128], [-128, -128, 127]),
        ("XP[8,0](__N)", [127.5, -129, INF, -INF], [128, -129, INF, -INF]),
        ("XP[8,+4](CSU)", [0.1, -0.1, 8, -8], [0.125, -0.0625, 7.9375, -7.9375]),
        ("XP[8,-2](CSD)", [-0.1, 7.99, 8], [-4, 4, 8]),
        ("FP[1|4|3,7](_N)", [464, 480, 500, 2**-9, 2**-10], [448, 480, 480, 2**-9, 0]),
        ("FP[1|4|3,7](_N)", [1.5 * 2**-10, INF, -1e9], [2**-9, 480, -480]),
        (
            "FP[1|5|10,15](FN)",
            [65504, 6.1e-5, 2**-14, 65520, 1e6],
            [65504, 0, 2**-14, 65504, 65504],
        ),
        ("FP[0|8|0,127](FN)", [1.5, 1.49, 3, -3, 5, 6], [2, 1, 2, 2, 4, 8]),
        ("FP[1|4|3,10](_N)", [126.5, 59], [60, 60]),
        ("fixed(8, 4, signed=False)", [-3, 0.03125, 0.09375, 99], [0, 0, 0.125, 15.9375]),
        ("posit(8, 1)", [1.0, 1e9, 1e-9, 0.0, -1e-9, INF], [1, 4096, 2**-12, 0, -(2**-12), 4096]),
        ("posit(8, 1, rounding=TowardZero)", [1e9, 1e-9, -1.05], [4096, 0, -1]),
        ("log(4, 0)", [1.4, 1.42, -3, 1e9, 0.0, 2**-9], [1, 2, -4, 128, 0, 0]),
        ("log(4, 0, signed=False)", [-3, 3], [0, 4]),
        ("nf4", [0.9, -5, 0.04, 5], [1.0, -1.0, 0.07958029955625534, 1.0]),
        ("table(1.0, 2.0, 4.0)", [0, 1.5, 3, 9], [1, 1, 4, 4]),
        ("table(-1.0, 1.0, rounding=TowardPositive)", [0, 0.5, -0.5], [1, 1, 1]),
        ("table(-1.0, 1.0, rounding=TowardZero)", [0.5, -0.5], [-1, 1]),
    ],
)
def test_by_hand(spelling, x, y):
    x = torch.tensor(x, dtype=torch.float32)
    assert cast(x, spelling).tolist() == y
    assert reference.round_values(x, format(spelling)).tolist() == y


def test_nan_stays_and_zero_has_no_sign():
    for spelling in ("XP[8,0](CSN)", "fixed(8, 4, clamp=False)", "posit(8, 1)", "nf4", "log(4, 3)"):
        y = cast(torch.tensor([NAN, -0.0]), spelling)
        assert bool(y[0].isnan())
        assert not torch.signbit(y[1])


@pytest.mark.parametrize(
    ("pattern", "width", "es", "value"),
    [
        (0b0100_0000, 8, 0, 1.0),
        (0b0000_0001, 8, 0, 2.0**-6),
        (0b0111_1111, 8, 0, 64.0),
        (0b0110_0000, 8, 2, 16.0),
        (0b0100_1000, 8, 2, 2.0),
        (0b0101_1000, 8, 1, 3.0),
        (0b0000_1101_1101_1101, 16, 3, 477 * 2.0**-27),
        (0b0110_1000, 8, 0, 3.0),
    ],
)
def test_posit_patterns(pattern, width, es, value):
    # the 16-bit one is the example of Gustafson and Yonemoto, Beating Floating Point (2017)
    assert decode_posit(pattern, width, es) == value


def test_posit_boundaries_are_posits_of_one_bit_more():
    narrow, wide = book_of(format("posit(8, 2)")), book_of(format("posit(9, 2)"))
    assert narrow.values == wide.values[::2]
    assert narrow.boundaries[1:] == wide.values[3:-1:2]


def test_logarithms_are_right_to_the_last_bit():
    book = book_of(format("log(5, 4)"))
    for k, value in zip(range(-255, 256), book.values[1:], strict=True):
        assert value == torch.tensor(2.0 ** (k / 16), dtype=torch.float64).float().item()
    for k, boundary in zip(range(-255, 255), book.boundaries[1:], strict=True):
        power = Fraction(2) ** (2 * k + 1)
        above = math.nextafter(boundary, INF)
        assert Fraction(boundary) ** 32 < power < Fraction(above) ** 32


ALL = [
    *("fixed(8, 4)", "fixed(6, 9, symmetric)", "fixed(8, 2, signed=False)", "posit(8, 1)"),
    *("posit(10, 2)", "log(4, 3)", "nf4", "table(-3.0, 0.1, 7.0)", "fp8_e4m3", "binary8p3ue"),
    *("fp6_e3m2fn", "fp4_e2m1fn", "fp8_e5m2fnuz"),
]


@pytest.mark.parametrize("spelling", ALL)
def test_its_own_values_stay(spelling):
    values = values_of(format(spelling))
    assert values == sorted(set(values))
    assert (values[0], values[-1]) == (format(spelling).min, format(spelling).max)
    for mode in ("NearestTiesToEven", "TowardZero", "TowardPositive", "TowardNegative", "ToOdd"):
        x = torch.tensor(values, dtype=torch.float32)
        fmt = format(spelling).__class__
        assert fmt is type(format(spelling))
        extra = f"rounding={mode}"
        name = f"{spelling[:-1]}, {extra})" if spelling.endswith(")") else f"{spelling}({extra})"
        assert torch.equal(cast(x, name), x)


@pytest.mark.parametrize("spelling", ["fixed(8, 4)", "nf4", "fp8_e4m3", "fp4_e2m1fn"])
def test_nearest_is_the_nearest_of_all_values(spelling):
    values = torch.tensor(values_of(format(spelling)), dtype=torch.float64)
    x = hostile(300, torch.float32, seed=0).double()
    x = x[x.isfinite()].clamp(-1e4, 1e4)
    distance = (x[:, None] - values).abs()
    chosen = (x - cast(x, spelling)).abs()
    assert torch.equal(chosen, distance.amin(1))


@given(
    st.sampled_from(ALL), st.lists(st.floats(width=32, allow_nan=False), min_size=2, max_size=20)
)
def test_idempotent_monotone_and_odd(spelling, values):
    x = torch.tensor(values)
    y = cast(x, spelling)
    assert same_bits(cast(y, spelling), y)
    order = x.argsort()
    assert bool((y[order][1:] >= y[order][:-1]).all())
    fmt = format(spelling)
    if fmt.min == -fmt.max and not spelling.startswith(("nf4", "table")):
        assert torch.equal(cast(-x, spelling), -y)
