"""Code layouts: every pattern against ml_dtypes, torch, gfloat and the formats' own values."""

import math
import sys

import ml_dtypes
import numpy as np
import pytest
import torch
from gfloat import decode_float
from gfloat import formats as gf
from torch import Tensor

from dovetail import DovetailError, format
from dovetail.formats import ElementFormat, FixedFormat, FloatFormat, LogFormat, PositFormat
from dovetail.formats.codes.layout import fits_float32, from_codes, nan_code, to_codes
from dovetail.formats.codes.packing import code_dtype
from dovetail.formats.posit import decode_posit
from dovetail.formats.values import values_of
from format_oracles import same_bits


def element(spelling: str) -> ElementFormat:
    fmt = format(spelling)
    assert isinstance(fmt, ElementFormat)
    return fmt


def all_codes(fmt: ElementFormat) -> Tensor:
    return torch.arange(1 << fmt.bits).to(code_dtype(fmt.bits))


ML_DTYPES = {
    "fp4_e2m1fn": ml_dtypes.float4_e2m1fn,
    "fp6_e2m3fn": ml_dtypes.float6_e2m3fn,
    "fp6_e3m2fn": ml_dtypes.float6_e3m2fn,
    "fp8_e3m4": ml_dtypes.float8_e3m4,
    "fp8_e4m3fn": ml_dtypes.float8_e4m3fn,
    "float(e=4, m=3)": ml_dtypes.float8_e4m3,
    "fp8_e5m2": ml_dtypes.float8_e5m2,
    "fp8_e4m3fnuz": ml_dtypes.float8_e4m3fnuz,
    "fp8_e5m2fnuz": ml_dtypes.float8_e5m2fnuz,
    "fp8_e4m3b11fnuz": ml_dtypes.float8_e4m3b11fnuz,
    "e8m0fnu": ml_dtypes.float8_e8m0fnu,
    "bf16": ml_dtypes.bfloat16,
    "fp16": np.float16,
}
TORCH = {
    "fp8_e4m3fn": torch.float8_e4m3fn,
    "fp8_e5m2": torch.float8_e5m2,
    "fp8_e4m3fnuz": torch.float8_e4m3fnuz,
    "fp8_e5m2fnuz": torch.float8_e5m2fnuz,
    "bf16": torch.bfloat16,
    "fp16": torch.float16,
}
GFLOAT = {
    "fp4_e2m1fn": gf.format_info_ocp_e2m1,
    "fp6_e2m3fn": gf.format_info_ocp_e2m3,
    "fp6_e3m2fn": gf.format_info_ocp_e3m2,
    "fp8_e4m3fn": gf.format_info_ocp_e4m3,
    "fp8_e5m2": gf.format_info_ocp_e5m2,
    "e8m0fnu": gf.format_info_ocp_e8m0,
    "fixed(8, 6)": gf.format_info_ocp_int8,
    "bf16": gf.format_info_bfloat16,
    "fp16": gf.format_info_binary16,
}


@pytest.mark.parametrize("spelling", ML_DTYPES)
def test_every_pattern_reads_as_ml_dtypes_reads_it(spelling: str) -> None:
    fmt = element(spelling)
    kind = np.uint16 if fmt.bits == 16 else np.uint8
    codes = np.arange(1 << fmt.bits, dtype=kind).view(ML_DTYPES[spelling])
    with np.errstate(invalid="ignore"):  # signalling NaNs
        theirs = codes.astype(np.float64)
    assert same_bits(from_codes(all_codes(fmt), fmt), torch.from_numpy(theirs))


@pytest.mark.parametrize("spelling", TORCH)
def test_every_pattern_reads_as_torch_reads_it(spelling: str) -> None:
    fmt = element(spelling)
    kind = torch.int16 if fmt.bits == 16 else torch.uint8
    theirs = torch.arange(1 << fmt.bits, dtype=torch.int32).to(kind).view(TORCH[spelling])
    assert same_bits(from_codes(all_codes(fmt), fmt), theirs.double())


@pytest.mark.parametrize("spelling", GFLOAT)
def test_every_pattern_reads_as_gfloat_reads_it(spelling: str) -> None:
    fmt = element(spelling)
    theirs = [decode_float(GFLOAT[spelling], c).fval for c in range(1 << fmt.bits)]
    ours = from_codes(all_codes(fmt), fmt)
    assert same_bits(ours, torch.tensor(theirs, dtype=torch.float64))


@pytest.mark.parametrize("bits", [3, 4, 6, 8, 11])
def test_every_p3109_pattern_reads_as_gfloat_reads_it(bits: int) -> None:
    for precision in range(1, bits):
        for letters, signed, domain in (
            ("sf", gf.Signedness.Signed, gf.Domain.Finite),
            ("se", gf.Signedness.Signed, gf.Domain.Extended),
            ("uf", gf.Signedness.Unsigned, gf.Domain.Finite),
            ("ue", gf.Signedness.Unsigned, gf.Domain.Extended),
        ):
            try:
                fmt = element(f"binary{bits}p{precision}{letters}")
            except DovetailError:
                continue  # no code is left for a number
            info = gf.format_info_p3109(bits, precision, signed, domain)
            theirs = [decode_float(info, c).fval for c in range(1 << bits)]
            ours = from_codes(all_codes(fmt), fmt)
            assert same_bits(ours, torch.tensor(theirs, dtype=torch.float64)), fmt


@pytest.mark.parametrize("dtype", [torch.float32, torch.float64])
def test_wide_floats_have_the_bits_of_the_machine(dtype: torch.dtype) -> None:
    fmt = element("fp32" if dtype == torch.float32 else "float(e=11, m=52)")
    integer = torch.int32 if dtype == torch.float32 else torch.int64
    low = torch.iinfo(integer).min
    words = torch.randint(low, -low - 1, (20_000,), dtype=torch.int64).to(integer)
    x = torch.cat([words.view(dtype), torch.tensor([0.0, -0.0, math.inf, -math.inf], dtype=dtype)])
    x = x[~x.isnan()]
    mask = (1 << 32) - 1 if dtype == torch.float32 else -1
    codes = to_codes(x, fmt)
    assert torch.equal(codes, x.view(integer).to(torch.int64) & mask)
    assert same_bits(from_codes(codes, fmt, dtype), x)


NARROW = [
    *ML_DTYPES,
    "binary8p3se",
    "binary8p4uf",
    "binary9p5ue",
    "float(e=5, m=2, specials=finite)",
    "float(e=1, m=2, specials=finite)",
    "float(e=2, m=0, specials=finite)",
    "float(e=8, m=0, signed=False, specials=finite, magnitude=True)",
    "float(e=9, m=3)",
    "float(e=11, m=0, bias=1074, specials=fn)",
    "float(e=10, m=2, bias=1060, specials=finite)",
    "fixed(8, 4)",
    "fixed(5, -3)",
    "fixed(1, 0)",
    "fixed(16, 20)",
    "fixed(7, 70, signed=False)",
    "fixed(6, 2, symmetric)",
    "posit(8, 2)",
    "posit(3, 0)",
    "posit(16, 3)",
    "posit(11, 1)",
    "log(4, 3)",
    "log(1, 0)",
    "log(3, 4, signed=False)",
    "log(8, 7)",
    "nf4",
    "table(-1.0, 0.25, 1.0)",
]


@pytest.mark.parametrize("spelling", NARROW)
def test_codes_and_values_are_inverse(spelling: str) -> None:
    fmt = element(spelling)
    codes = all_codes(fmt)
    if spelling.startswith("table"):
        codes = codes[:3]
    values = from_codes(codes, fmt)
    # Every value that the format says it has is read from some code, and no other is but codes left
    # out: the lowest of a symmetric format.
    read = sorted(set(values[values.isfinite()].tolist()))
    left_out = [fmt.min - 2.0**fmt.quantum] if "symmetric" in spelling else []
    assert isinstance(fmt, FixedFormat) or not left_out
    assert read == left_out + values_of(fmt)
    assert bool(values.isinf().any()) == fmt.has_inf
    assert bool(values.isnan().any()) == fmt.has_nan
    negative_zeros = (values == 0) & (values.view(torch.int64) < 0)
    assert bool(negative_zeros.any()) == fmt.has_negative_zero
    # And writing is the inverse of reading, NaNs and the second zero of logarithms aside.
    again = to_codes(values, fmt)
    unique = ~values.isnan()
    if isinstance(fmt, LogFormat):
        unique &= values != 0
    assert torch.equal(again[unique], codes[unique])
    assert same_bits(from_codes(again, fmt), values)
    if fmt.has_nan:
        assert set(again[values.isnan()].tolist()) == {nan_code(fmt)}
    if fits_float32(fmt):
        assert torch.equal(values.float().double()[unique], values[unique])


@pytest.mark.parametrize(
    "spelling", ["fixed(24, 10)", "fixed(32, 5)", "fixed(32, 0, signed=False)"]
)
def test_wide_fixed_point_is_twos_complement(spelling: str) -> None:
    fmt = element(spelling)
    assert isinstance(fmt, FixedFormat)
    integers = [fmt.lowest, fmt.lowest + 1, -1 if fmt.signed else 1, 0, 12345, fmt.highest]
    exact = torch.tensor([k * 2.0**fmt.quantum for k in integers], dtype=torch.float64)
    codes = to_codes(exact, fmt)
    assert codes.tolist() == [k % (1 << fmt.bits) for k in integers]
    assert torch.equal(from_codes(codes, fmt), exact)


def test_nan_is_written_as_the_quiet_one() -> None:
    nan = torch.tensor([math.nan])
    expected = {"fp8_e5m2": 0x7E, "fp8_e4m3fn": 0x7F, "fp8_e4m3fnuz": 0x80, "e8m0fnu": 0xFF}
    expected |= {"fp16": 0x7E00, "bf16": 0x7FC0, "posit(8)": 0x80, "binary8p4se": 0x80}
    for spelling, code in expected.items():
        assert to_codes(nan, element(spelling)).tolist() == [code], spelling
    for spelling in ("fp4_e2m1fn", "fixed(8, 4)", "nf4", "log(4, 3)"):
        assert nan_code(element(spelling)) is None


def test_posits_are_those_of_the_standard() -> None:
    # 0 00...: 1 is 0100...; minus is two's complement; 1000... is NaR (Posit Standard 2022)
    fmt = PositFormat(8, 2)
    x = torch.tensor([0.0, 1.0, -1.0, 16.0, -(2.0**-24), 2.0**24, 1.5])
    assert to_codes(x, fmt).tolist() == [0, 0x40, 0xC0, 0x60, 0xFF, 0x7F, 0x44]
    for width, es in ((6, 0), (8, 2), (16, 2)):
        fmt = PositFormat(width, es)
        ours = from_codes(all_codes(fmt), fmt).tolist()
        half = 1 << (width - 1)
        assert math.isnan(ours[half])
        assert ours[:half] == [float(decode_posit(p, width, es)) for p in range(half)]
        assert ours[half + 1 :] == [-v for v in ours[half - 1 : 0 : -1]]


def test_logarithms_by_hand() -> None:
    # sign, then log2 in two's complement with one fraction bit; 100 is the logarithm of zero
    fmt = LogFormat(2, 1)
    x = torch.tensor([0.0, 1.0, -1.0, 2.0, 0.5, -0.5])
    assert to_codes(x, fmt).tolist() == [0b0100, 0b0000, 0b1000, 0b0010, 0b0110, 0b1110]
    assert from_codes(torch.tensor([0b1100], dtype=torch.uint8), fmt).tolist() == [0.0]


def test_a_place_beyond_a_table_is_refused() -> None:
    with pytest.raises(DovetailError, match=r"code 3 has no value in 'table.*ends at code 2"):
        from_codes(torch.tensor([0, 3], dtype=torch.uint8), element("table(-1.0, 0.25, 1.0)"))


def test_values_are_rounded_to_narrow_dtypes_by_way_of_float32() -> None:
    fmt = element("log(8, 8)")
    codes = all_codes(fmt) if fmt.bits <= 16 else torch.arange(1 << 17)
    wide = from_codes(codes, fmt)
    for dtype in (torch.float32, torch.float16, torch.bfloat16):
        assert same_bits(from_codes(codes, fmt, dtype), wide.float().to(dtype))


def test_a_format_of_ones_own_has_no_layout() -> None:
    class Odd(FloatFormat.__mro__[1]):  # type: ignore[misc,valid-type]
        bits = 8
        rounding = FloatFormat(4, 3).rounding
        spelling = "odd"
        max = min = emax = smallest_normal = smallest_subnormal = bounds = 1

    with pytest.raises(DovetailError, match=r"'odd' has no code layout.*table"):
        to_codes(torch.ones(1), Odd())


assert sys.byteorder == "little"  # views of NumPy's and torch's bytes are compared
