"""Floating-point formats: facts, and casts against four independent definitions."""

import dataclasses
import math

import ml_dtypes
import numpy as np
import pytest
import torch
from gfloat import RoundMode, round_float, round_ndarray
from gfloat.formats import format_info_ocp_e8m0

from dovetail import DovetailError, cast, format
from dovetail.formats import FloatFormat, Rounding
from dovetail.formats.names.known import FLOATS
from dovetail.formats.philox import random_words
from dovetail.formats.realise import in_torch
from format_oracles import (
    EDGES,
    GFLOAT_MODES,
    MODES,
    by_table,
    every,
    gfloat_info,
    hostile,
    same_bits,
    with_mode,
)

MINIFLOATS = [name for name, fmt in FLOATS.items() if fmt.bits <= 8 and fmt.signed]
P3109 = ["binary8p4se", "binary8p3sf", "binary8p1se", "binary6p3se", "binary5p2sf", "binary4p3sf"]
SIGNED = [*MINIFLOATS, *P3109, "float(e=4, m=0, specials=finite)", "float(e=2, m=5, bias=-3)"]


@pytest.mark.parametrize(
    ("name", "bits", "highest", "normal", "subnormal"),
    [
        ("fp4_e2m1fn", 4, 6.0, 1.0, 0.5),
        ("fp6_e2m3fn", 6, 7.5, 1.0, 0.125),
        ("fp6_e3m2fn", 6, 28.0, 0.25, 0.0625),
        ("fp8_e4m3fn", 8, 448.0, 2.0**-6, 2.0**-9),
        ("fp8_e5m2", 8, 57344.0, 2.0**-14, 2.0**-16),
        ("fp8_e4m3fnuz", 8, 240.0, 2.0**-7, 2.0**-10),
        ("fp8_e5m2fnuz", 8, 57344.0, 2.0**-15, 2.0**-17),
        ("fp8_e4m3b11fnuz", 8, 30.0, 2.0**-10, 2.0**-13),
        ("fp8_e3m4", 8, 15.5, 0.25, 2.0**-6),
        ("fp16", 16, 65504.0, 2.0**-14, 2.0**-24),
        ("bf16", 16, 3.3895313892515355e38, 2.0**-126, 2.0**-133),
        ("tf32", 19, (2 - 2.0**-10) * 2.0**127, 2.0**-126, 2.0**-136),
        ("fp32", 32, 3.4028234663852886e38, 2.0**-126, 2.0**-149),
        ("e8m0fnu", 8, 2.0**127, 2.0**-127, 2.0**-127),
        ("binary8p4se", 8, 224.0, 2.0**-7, 2.0**-10),
        ("binary8p3sf", 8, 57344.0, 2.0**-15, 2.0**-17),
    ],
)
def test_facts(name, bits, highest, normal, subnormal):
    fmt = format(name)
    facts = (fmt.bits, fmt.max, fmt.smallest_normal, fmt.smallest_subnormal)
    assert facts == (bits, highest, normal, subnormal)
    assert fmt.emax == math.floor(math.log2(highest))
    assert fmt.emin == round(math.log2(normal))
    assert fmt.bytes_per_element == bits / 8


@pytest.mark.parametrize("name", [*SIGNED, "binary8p3ue", "binary8p4uf", "fp16", "bf16"])
def test_facts_are_those_of_gfloat(name):
    fmt = format(name)
    info = gfloat_info(fmt)
    assert (fmt.max, fmt.smallest_subnormal) == (info.max, info.smallest)
    assert fmt.min == info.min
    assert fmt.has_nan == (info.num_nans > 0)


@pytest.mark.parametrize("dtype", [torch.float16, torch.bfloat16])
@pytest.mark.parametrize("name", SIGNED)
def test_every_16_bit_input_in_every_mode(name, dtype):
    x = every(dtype)
    wide = x.double().numpy()
    for mode in MODES:
        fmt = format(with_mode(name, rounding=mode))
        expected = torch.from_numpy(by_table(wide, fmt)).float().to(dtype)
        assert same_bits(in_torch(x, fmt), expected), fmt


UNSIGNED = ["binary8p3ue", "binary8p4uf", "binary8p1ue", "binary6p2uf"]


@pytest.mark.parametrize("dtype", [torch.float16, torch.bfloat16])
@pytest.mark.parametrize("name", UNSIGNED)
def test_every_16_bit_input_of_unsigned_formats(name, dtype):
    x = every(dtype)
    size = x[~torch.signbit(x)].double()
    for mode, theirs in GFLOAT_MODES.items():
        fmt = format(with_mode(name, rounding=mode))
        expected = round_ndarray(gfloat_info(fmt), size.numpy(), theirs, sat=True)
        assert same_bits(cast(size.to(dtype), fmt), torch.from_numpy(expected).float().to(dtype))
        below = cast(x[torch.signbit(x) & ~x.isnan()], fmt)
        assert bool((below == fmt.min).all()), fmt


@pytest.mark.parametrize("dtype", [torch.float16, torch.bfloat16])
def test_every_16_bit_input_takes_the_same_bits_everywhere(dtype):
    """``dv.cast`` as it runs in eager mode, against the torch form, in every mode."""
    x = every(dtype)
    for name in [*SIGNED, *UNSIGNED, "e8m0fnu", "fp16", "bf16"]:
        for mode in MODES:
            fmt = format(with_mode(name, rounding=mode))
            assert same_bits(cast(x, fmt), in_torch(x, fmt)), fmt


@pytest.mark.parametrize("name", [*SIGNED, "fp16", "bf16"])
@pytest.mark.parametrize("saturation", ["SatFinite", "SatNone"])
def test_equals_gfloat(name, saturation):
    base = format(name)
    if saturation == "SatNone" and not (base.has_nan or base.has_inf):
        pytest.skip("gfloat refuses overflow in a format without NaN and infinity")
    x = hostile(20_000, torch.float32, seed=1)
    if not base.has_nan:
        x = x[~x.isnan()]
    for mode, theirs in GFLOAT_MODES.items():
        fmt = format(with_mode(name, rounding=mode, saturation=saturation))
        sat = saturation == "SatFinite"
        expected = round_ndarray(gfloat_info(fmt), x.double().numpy(), theirs, sat=sat)
        assert same_bits(in_torch(x, fmt), torch.from_numpy(expected).float()), fmt


@pytest.mark.parametrize("name", ["fp8_e4m3fn", "fp4_e2m1fn", "bf16", "binary8p3se"])
@pytest.mark.parametrize("bits", [1, 5, 12, 24])
def test_stochastic_equals_gfloat_on_the_same_random_bits(name, bits):
    x = hostile(5_000, torch.float32, seed=2)
    x = x[~x.isnan()]
    fmt = format(with_mode(name, rounding=f"Stochastic({bits})", saturation="SatFinite"))
    seed = torch.tensor(77)
    draws = (random_words(x.shape, seed) >> (32 - bits)).numpy()
    info, mode = gfloat_info(fmt), RoundMode.StochasticFast
    expected = round_ndarray(info, x.double().numpy(), mode, True, srbits=draws, srnumbits=bits)
    assert same_bits(in_torch(x, fmt, seed=seed), torch.from_numpy(expected).float())


ML_DTYPES = {
    "fp8_e4m3fn": ml_dtypes.float8_e4m3fn,
    "fp8_e5m2": ml_dtypes.float8_e5m2,
    "fp8_e4m3fnuz": ml_dtypes.float8_e4m3fnuz,
    "fp8_e5m2fnuz": ml_dtypes.float8_e5m2fnuz,
    "fp8_e4m3b11fnuz": ml_dtypes.float8_e4m3b11fnuz,
    "fp8_e3m4": ml_dtypes.float8_e3m4,
    "bf16": ml_dtypes.bfloat16,
    "fp16": np.float16,
}


@pytest.mark.parametrize("name", ML_DTYPES)
def test_without_saturation_equals_ml_dtypes(name):
    x = hostile(100_000, torch.float32, seed=3)
    with np.errstate(over="ignore", invalid="ignore"):
        expected = x.numpy().astype(ML_DTYPES[name]).astype(np.float32)
    fmt = format(with_mode(name, saturation="SatNone"))
    assert same_bits(in_torch(x, fmt), torch.from_numpy(expected))


@pytest.mark.parametrize("name", ["float6_e2m3fn", "float6_e3m2fn", "float4_e2m1fn"])
def test_saturating_narrow_formats_equal_ml_dtypes(name):
    # ml_dtypes makes NaN -0 there; here it stays NaN.
    x = hostile(100_000, torch.float32, seed=4)
    x = x[~x.isnan()]
    expected = x.numpy().astype(getattr(ml_dtypes, name)).astype(np.float32)
    ours = in_torch(x, format(name.replace("float", "fp")))
    assert same_bits(ours, torch.from_numpy(expected))


@pytest.mark.parametrize(
    ("name", "dtype"), [("fp8_e4m3fn", torch.float8_e4m3fn), ("fp8_e5m2", torch.float8_e5m2)]
)
def test_equals_torch_where_all_its_versions_agree(name, dtype):
    # Overflow to e4m3fn became saturating in torch 2.13 and was NaN before; e5m2 gives infinity.
    x = hostile(100_000, torch.float32, seed=5)
    x = x[x.isnan() | (x.abs() <= format(name).max)]
    assert same_bits(in_torch(x, format(name)), x.to(dtype).float())


def test_where_the_oracles_disagree():
    """What the tests above leave out, and what each oracle makes of it; ours is said beside."""
    inf, nan = math.inf, math.nan

    def theirs(values, dtype):
        x = torch.tensor(values)
        if isinstance(dtype, torch.dtype):
            return [str(v) for v in x.to(dtype).float().tolist()]
        with np.errstate(over="ignore", invalid="ignore"):
            return [str(float(v)) for v in x.numpy().astype(dtype).astype(np.float32)]

    def gfloats(values, name, sat=False):
        x = np.array(values, dtype=np.float64)
        found = round_ndarray(gfloat_info(format(name)), x, RoundMode.TiesToEven, sat)
        return [str(v) for v in found.tolist()]

    def ours(values, name):
        return [str(v) for v in cast(torch.tensor(values), name).tolist()]

    # Overflow of e4m3: NaN in ml_dtypes, gfloat unless told to saturate, torch before 2.13.
    beyond = [500.0, -inf]
    assert theirs(beyond, ml_dtypes.float8_e4m3fn) == gfloats(beyond, "fp8_e4m3fn") == ["nan"] * 2
    assert theirs(beyond, torch.float8_e4m3fn) in (["nan"] * 2, ["448.0", "-448.0"])
    assert gfloats(beyond, "fp8_e4m3fn", sat=True) == ours(beyond, "fp8_e4m3fn")
    assert ours(beyond, "fp8_e4m3fn") == ["448.0", "-448.0"]
    # Overflow of e5m2: infinite in all three of them; OCP's saturating cast, and ours, is finite.
    beyond = [1e6, -inf]
    for found in (
        theirs(beyond, ml_dtypes.float8_e5m2),
        theirs(beyond, torch.float8_e5m2),
        gfloats(beyond, "fp8_e5m2"),
        ours(beyond, "fp8_e5m2(saturation=SatNone)"),
    ):
        assert found == ["inf", "-inf"]
    assert ours(beyond, "fp8_e5m2") == ["57344.0", "-57344.0"]
    # NaN in formats without one: -0 in ml_dtypes, refused by gfloat's scalar form and kept by its
    # array form, kept as NaN here.
    for kind, name in (("float4_e2m1fn", "fp4_e2m1fn"), ("float6_e3m2fn", "fp6_e3m2fn")):
        assert theirs([nan], getattr(ml_dtypes, kind)) == ["-0.0"]
        with pytest.raises(ValueError, match="No NaN"):
            round_float(gfloat_info(format(name)), nan, sat=True)
        assert gfloats([nan], name, sat=True) == ours([nan], name) == ["nan"]
    # e8m0: ties up in torch and ml_dtypes, to the even code in gfloat and here; zero and below.
    assert theirs([3.0, 6.0, 12.0], torch.float8_e8m0fnu) == ["4.0", "8.0", "16.0"]
    assert theirs([3.0, 6.0, 12.0], ml_dtypes.float8_e8m0fnu) == ["4.0", "8.0", "16.0"]
    even = round_ndarray(format_info_ocp_e8m0, np.array([3.0, 6.0, 12.0]), RoundMode.TiesToEven)
    assert [str(v) for v in even] == ours([3.0, 6.0, 12.0], "e8m0fnu") == ["2.0", "8.0", "8.0"]
    assert theirs([0.0, -2.0], ml_dtypes.float8_e8m0fnu) == ["nan", "nan"]
    assert theirs([0.0, -2.0], torch.float8_e8m0fnu) == [str(2.0**-127), "2.0"]
    assert ours([0.0, -2.0], "e8m0fnu") == [str(2.0**-127)] * 2


def test_e8m0_has_its_own_rule():
    # torch and ml_dtypes round ties up (3 -> 4, 12 -> 16); gfloat and P3109 to the even code.
    x = torch.tensor([3.0, 6.0, 12.0, 0.0, -1.0, 1e-45, math.inf, math.nan, 1.49, 1.51, 1e38])
    y = cast(x, "e8m0fnu").tolist()
    assert y[:7] == [2.0, 8.0, 8.0, 2.0**-127, 2.0**-127, 2.0**-127, 2.0**127]
    assert math.isnan(y[7])
    assert y[8:] == [1.0, 2.0, 2.0**126]
    powers = 2.0 ** torch.arange(-127, 128).double()
    assert torch.equal(cast(powers.float(), "e8m0fnu").double(), powers)


def test_float64_is_rounded_once():
    # In float32 these would first become ties (or the next value) and then go the wrong way.
    above = 1.0 + 2.0**-4 + 2.0**-40
    x = torch.tensor([above, -above, 1.0 + 2.0**-4, 464.0 + 2.0**-30], dtype=torch.float64)
    assert cast(x, "fp8_e4m3").tolist() == [1.125, -1.125, 1.0, 448.0]
    fp32 = torch.tensor([1.0 + 2.0**-24, 1.0 + 2.0**-24 + 2.0**-50], dtype=torch.float64)
    assert cast(fp32, "fp32").tolist() == [1.0, 1.0 + 2.0**-23]
    assert cast(torch.tensor([1e300], dtype=torch.float64), "bf16").tolist() == [math.inf]


@pytest.mark.parametrize("name", ["fp16", "bf16", "fp32"])
def test_own_dtype_is_left_alone(name):
    dtype = {"fp16": torch.float16, "bf16": torch.bfloat16}.get(name)
    x = every(dtype) if dtype else hostile(10_000, torch.float32, seed=6)
    assert same_bits(cast(x, name), x)


def test_saturation_modes():
    x = torch.tensor([1e9, -1e9, math.inf, -math.inf])
    inf, nan = math.inf, math.nan

    def ends(name, **arguments):
        return [str(v) for v in cast(x, with_mode(name, **arguments)).tolist()]

    def texts(*values):
        return [str(float(v)) for v in values]

    assert ends("fp8_e5m2") == texts(57344, -57344, 57344, -57344)
    assert ends("fp8_e5m2", saturation="SatPropagate") == texts(57344, -57344, inf, -inf)
    assert ends("fp8_e5m2", saturation="SatNone") == texts(inf, -inf, inf, -inf)
    assert ends("fp8_e4m3", saturation="SatPropagate") == texts(448, -448, nan, nan)
    assert ends("fp4_e2m1fn", saturation="SatNone") == texts(6, -6, 6, -6)
    toward = {"saturation": "SatNone", "rounding": "TowardPositive"}
    assert ends("fp8_e5m2", **toward) == texts(inf, -57344, inf, -inf)
    assert ends("fp8_e5m2", saturation="SatNone", rounding="ToOdd") == texts(
        57344, -57344, inf, -inf
    )


def test_nan_stays_nan_and_minus_zero_follows_the_format():
    x = torch.tensor([math.nan, -0.0, -1e-30])
    for name, fmt in FLOATS.items():
        y = cast(x, name)
        assert bool(y[0].isnan()), name
        if fmt.signed and name not in ("fp32", "bf16", "tf32"):
            assert torch.signbit(y[1:]).tolist() == [fmt.has_negative_zero] * 2, name


def test_flush_and_unsigned():
    flushed = format("fp8_e4m3").__class__(5, 10, subnormals=False)
    x = torch.tensor([6.1e-5, 2.0**-14, -6.1e-5, 65504.0])
    assert cast(x, flushed).tolist() == [0.0, 2.0**-14, -0.0, 65504.0]
    unsigned = format("binary8p4uf")
    assert cast(torch.tensor([-3.0, -0.0, 3.0, -math.inf]), unsigned).tolist() == [0, 0, 3, 0]
    dropped = dataclasses.replace(unsigned, magnitude=True)
    assert cast(torch.tensor([-3.0, 3.0]), dropped).tolist() == [3.0, 3.0]


def test_values_beyond_float32_take_the_wide_path():
    tiny = FloatFormat(8, 3, bias=160)
    x = torch.tensor([2.0**-149, 3.0 * 2.0**-149, 1.0, 2.0**-126])
    assert torch.equal(cast(x, tiny), x)
    huge = FloatFormat(4, 3, bias=-150, specials="finite")
    assert cast(torch.tensor([1.0, 3e38]), huge).tolist() == [0.0, 0.0]
    assert cast(torch.tensor([2.0**151], dtype=torch.float64), huge).tolist() == [2.0**151]


@pytest.mark.parametrize(
    ("spelling", "message"),
    [
        ("float(e=12, m=3)", "nearest is 'float(e=11, m=3)'"),
        ("float(e=4, m=60)", "nearest is 'float(e=4, m=52)'"),
        ("float(e=4, m=3, specials=iee)", "did you mean 'ieee'"),
        ("float(e=4, m=3, bias=2000)", "beyond float64"),
        ("float(e=4, m=3, zero=False)", "without mantissa bits"),
        ("float(e=4, m=3, magnitude=True)", "signed=False"),
        ("float(e=1, m=0)", "leaves no code"),
        ("fp8_e4m3(saturation=Sat)", "unknown saturation 'Sat'"),
        ("fp8_e4m3(rounding=TowardsZero)", "did you mean 'TowardZero'"),
        ("fp8_e4m3(rounding=Stochastic(40))", "nearest is 'Stochastic(24)'"),
        ("binary8p9se", "'binary8p4se' has 4"),
        ("fp8_e4m4", "did you mean 'fp8_e4m3"),
        ("float(e=x, m=3)", "e is a whole number"),
        ("float(m=3)", "missing a required argument: 'e'"),
        ("fp16(bias=3)", "unknown argument 'bias'"),
    ],
)
def test_refusals_teach(spelling, message):
    with pytest.raises(DovetailError) as caught:
        format(spelling)
    assert message in str(caught.value)


def test_rounding_refuses():
    with pytest.raises(DovetailError, match="uses no random bits"):
        Rounding("ToOdd", 3)
    assert len(EDGES) > 20
