"""Every way of writing a format: what it means, that it is read back, and how errors teach."""

import dataclasses
import pickle

import pytest

from dovetail import DovetailError, Recipe, format, rule
from dovetail.formats import (
    NVFP4,
    BlockFloat,
    FixedFormat,
    FloatFormat,
    MXFormat,
    Rounding,
    Same,
    ScaledBlock,
    TableFormat,
    format_examples,
)
from dovetail.formats.names.known import FLOATS
from dovetail.formats.rounding import ROUNDINGS, SATURATIONS
from dovetail.formats.shorthand import aliases
from dovetail.recipe import schema

UP, DOWN = Rounding("TowardPositive"), Rounding("TowardNegative")
RANDOM = Rounding("Stochastic", 24)
WRITTEN = [
    *("binary8p4se", "binary8p3uf", "binary8p1ue", "binary15p8se", "binary3p2sf"),
    "mxfp4(block=16, mode=RCEIL)",
    "mxint8(symmetric=False, axis=0)",
    "mx(float(e=3, m=3), mode=EVEN, block=8)",
    "mx(fixed(5, 2, symmetric))",
    "bfp(m=4, block=16, symmetric=False, axis=1, rounding=ToOdd)",
    "nf4(block=64)",
    "scaled(posit(8, 1), bf16, block=32, axis=0)",
    "scaled(fp4_e2m1fn(rounding=Stochastic(8)), fp8_e4m3(rounding=TowardPositive))",
    "fixed(8, 4, symmetric, rounding=TowardZero)",
    "fixed(8, 4, symmetric=True)",
    "fixed(8, -3, signed=False, clamp=False)",
    "float(e=5, m=2, bias=12, specials=fnuz, rounding=ToOdd, saturation=SatPropagate)",
    "float(e=4, m=0, zero=False, specials=finite, signed=False)",
    "posit(16)",
    "log(5, 2, signed=False)",
    "table(0, 1e-3, 0.1, 7)",
    "nvfp4(block=32, rounding=Stochastic)",
    *("BFP[8|8]{64,-1}(SN)", "BFP[8|8]{64}(N)", "BFP[8|8]{64}(_S)", "XP[8,-2](__D)"),
    *("FP[0|8|0,127](FN)", "FP[1|4|3,7](_S)", "MXFP6[E3M2]{16,1}", "MXINT6{8}", "SAME"),
    *("int4(channel=1)", "uint8(symmetric)", "int8(observer=percentile(99.9))"),
]


@pytest.mark.parametrize("spelling", [*format_examples(), *aliases(), *WRITTEN])
def test_canonical_spelling_is_read_back(spelling):
    fmt = format(spelling)
    again = format(repr(fmt))
    assert (again, hash(again), repr(again)) == (fmt, hash(fmt), repr(fmt))
    assert pickle.loads(pickle.dumps(fmt)) == fmt
    assert str(fmt) == fmt.spelling
    with pytest.raises((dataclasses.FrozenInstanceError, AttributeError)):
        fmt.bits = 3


@pytest.mark.parametrize("rounding", [*ROUNDINGS, "Stochastic(7)"])
@pytest.mark.parametrize("saturation", SATURATIONS)
def test_every_float_with_every_mode_is_read_back(rounding, saturation):
    for name in [*FLOATS, "binary8p4se"]:
        fmt = format(f"{name}(rounding={rounding}, saturation={saturation})")
        assert (str(fmt.rounding), fmt.saturation) == (rounding, saturation)
        assert format(repr(fmt)) == fmt
        assert repr(fmt).startswith(name)


@pytest.mark.parametrize(
    ("shorthand", "fmt"),
    [
        ("SAME", Same()),
        ("XP[8,+4](CSN)", FixedFormat(8, 4, symmetric=True)),
        ("XP[8,4](C_U)", FixedFormat(8, 4, rounding=UP)),
        ("XP[8,-2](_SD)", FixedFormat(8, -2, symmetric=True, clamp=False, rounding=DOWN)),
        ("XP[4,0](UAS)", FixedFormat(4, 0, clamp=False, rounding=RANDOM)),
        ("FP[1|4|3,7](_N)", FloatFormat(4, 3, specials="finite")),
        ("FP[1|4|3,10](_N)", FloatFormat(4, 3, bias=10, specials="finite")),
        ("FP[1|8|7,127](FN)", FloatFormat(8, 7, subnormals=False, saturation="SatNone")),
        ("BFP[8|8]{64}(SN)", BlockFloat(8, 64)),
        ("BFP[8|8]{64,-1}(SN)", BlockFloat(8, 64, axis=-1)),
        (" BFP[ 4 | 8 ]{ 16 , 1 }( _ D ) ", BlockFloat(4, 16, False, 1, DOWN)),
        ("MXFP8[E4M3]{32}", MXFormat(FLOATS["fp8_e4m3fn"])),
        ("MXFP8[E5M2]{64}", MXFormat(FLOATS["fp8_e5m2"], 64)),
        ("MXFP4[E2M1]{32,1}", MXFormat(FLOATS["fp4_e2m1fn"], axis=1)),
        ("MXINT8{32}", MXFormat(FixedFormat(8, 6, symmetric=True))),
        ("FLOAT32", FLOATS["fp32"]),
        ("FLOAT16", FloatFormat(5, 10, subnormals=False)),
        ("BFP16_64", BlockFloat(8, 64)),
        ("BFP12A_128_FD", BlockFloat(4, 128, symmetric=False, axis=1)),
        ("BFP32_1", BlockFloat(24, 1)),
        ("MXFP6_E2M3K64", MXFormat(FLOATS["fp6_e2m3fn"], 64)),
        ("INT8", FixedFormat(8, 0, symmetric=True)),
    ],
)
def test_shorthand_means(shorthand, fmt):
    assert format(shorthand) == fmt


def test_scaled_block_shorthand():
    fmt = format("SBFP<XP[4,0](CSN)><FP[0|4|4,7](FN)>{16}")
    assert fmt == format("SBFP12_16") == format("SBFP12_16_7")
    assert isinstance(fmt, ScaledBlock)
    assert (fmt.element, fmt.block) == (FixedFormat(4, 0, symmetric=True), 16)
    assert (fmt.scale.signed, fmt.scale.max) == (False, 31 * 2.0**4)


def test_names_mean():
    assert format("nvfp4") == NVFP4()
    assert format("fp8_e4m3") is not None
    assert format("fp8_e4m3") == format("fp8_e4m3fn")
    assert format("binary8p4sf") == format("fp8_e4m3fnuz")
    assert format("table(1, -1, 0.5)") == TableFormat((-1.0, 0.5, 1.0))
    assert format("ap_fixed(16, 6, TRN, SAT_SYM)") == FixedFormat(16, 10, True, True, rounding=DOWN)
    assert format("FP[1|5|10,15](_N)").max == 65504  # not 131008


@pytest.mark.parametrize(
    ("spelling", "message"),
    [
        ("mxfp5", "unknown format 'mxfp5'; did you mean 'mxfp"),
        ("fp8e4m3", "did you mean 'fp8_e4m3"),
        ("fp8", "did you mean 'fp8_e4m3'?"),
        ("mxfp8", "did you mean 'mxfp8_e4m3'?"),
        ("BFP17_64", "did you mean 'BFP1"),
        ("BFP[8|7]{64}(SN)", "expected '8]' at character 7, found '7'"),
        ("BFP[8|8]{64}(XN)", "expected S for symmetric or _ (S A _) at character 14, found 'X'"),
        ("BFP[8|8]{64}(SN", "expected ')' at character 16, the text ends\n  BFP[8|8]{64}(SN\n"),
        ("BFP[99|8]{64}(SN)", "a number of mantissa bits in 2..24; the nearest to 99 is 24"),
        ("BFP[8|8]{64}(SN)x", "expected the end of the text at character 17"),
        ("XP[8;4](CSN)", "expected ',' at character 5, found ';'"),
        ("XP[8,4](CSX)", "expected a rounding letter (N U D S) at character 11"),
        ("FP[1|4|3,200](_N)", "an exponent bias in -112..127; the nearest to 200 is 127"),
        ("MXFP8[E4M4]{32}", "8 bits such as E4M3, as MXFP8 says (E4M4 has 9), at character 7"),
        ("MXFP8[E4M4]{32}", "\n  MXFP8[E4M4]{32}\n        ^"),
        ("MXFP6[E8M1]{32}", "6 bits such as E5M0"),
        ("SBFP<XP[4,1](CSN)><FP[0|4|4,7](FN)>{16}", "symmetric clamped integers"),
        ("TOPK{0.5}(U)", "is a sparsity, not a number format"),
        ("ap_fixed(8, 4, RND, SAT)", "the modes that dovetail has are TRN"),
        ("fixed(8, 4, symetric)", "unknown argument 'symetric'; did you mean 'symmetric'"),
        ("fixed(0, 4)", "nearest is 'fixed(1, 4)'"),
        ("fixed(8, 4.5)", "fraction is a whole number"),
        ("posit(40, 1)", "nearest is 'posit(16, 1)'"),
        ("log(9, 3)", "the nearest is 'log(8, 3)'"),
        ("table(1)", "2 to 65536 different values"),
        ("table(1, 1e39)", "beyond float32"),
        ("mxfp4(block=big)", "block is a whole number"),
        ("mxfp4(16, FLOOR, 1, ToOdd, 7)", "too many positional arguments; it takes (block=32"),
        ("mxfp4(block=16", "mxfp4(block=16"),
    ],
)
def test_refusals_teach(spelling, message):
    with pytest.raises(DovetailError) as caught:
        format(spelling)
    assert message in str(caught.value)


def test_rules_and_files_take_every_spelling():
    text = 'dovetail: 1\nrules: [{input: "BFP[8|8]{64}(SN)", weight: mxfp4(block=16)}]'
    (line,) = schema.loads(text).recipe
    assert line.fields == {"input": BlockFloat(8, 64), "weight": format("mxfp4(block=16)")}
    recipe = Recipe(rule("*", input="SAME", output="FLOAT16"), rule("fc", weight="nf4(block=64)"))
    assert tuple(schema.loads(schema.spell_rules(list(recipe))).recipe) == tuple(recipe)
