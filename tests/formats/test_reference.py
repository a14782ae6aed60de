"""The fast casts equal the exact definition, bit for bit; the definition equals the hand cases."""

import dataclasses
from fractions import Fraction

import pytest
import torch
from hypothesis import given
from hypothesis import strategies as st

from dovetail import cast, format
from dovetail.formats import FloatFormat, reference
from dovetail.formats.names.known import FLOATS
from dovetail.formats.realise import in_torch, shared_exponents
from dovetail.formats.rounding import Rounding
from format_oracles import MODES, hostile, nearest_multiple, same_bits, with_mode

ALL_MODES = [*MODES, "Stochastic(24)", "Stochastic(3)"]
DTYPES = [torch.float32, torch.float64, torch.float16, torch.bfloat16]
ELEMENTS = [
    *FLOATS,
    *("binary8p4se", "binary8p3uf", "binary8p1ue", "binary8p1se"),
    "float(e=5, m=2, subnormals=False)",
    "FP[0|8|0,127](FN)",
    "float(e=4, m=3, bias=-20, specials=finite)",
    "float(e=8, m=3, bias=140)",
    "float(e=11, m=52)",
    "float(e=4, m=0, specials=finite)",
    *("fixed(8, 4)", "fixed(8, 0, symmetric)", "fixed(16, -3, clamp=False)", "fixed(24, 30)"),
    *("fixed(8, 4, signed=False)", "fixed(32, 8)"),
    *("posit(8, 1)", "posit(6, 0)", "posit(16, 2)"),
    *("log(4, 3)", "log(8, 2)", "log(3, 0, signed=False)"),
    *("nf4", "table(-1.0, 0.1, 1e30, 1.0)", "table(1.0, 2.0, 4.0)"),
]
BLOCKS = [
    *("bfp(m=8, block=4)", "bfp(m=2, block=3)", "bfp(m=24, block=5)"),
    "bfp(m=8, block=4, symmetric=False)",
    *("mxfp8_e4m3(block=4)", "mxfp8_e5m2(block=7)", "mxfp6_e2m3(block=4)", "mxfp6_e3m2(block=4)"),
    *("mxfp4(block=4)", "mxint8(block=4)", "mxint8(block=4, symmetric=False)", "mxint4(block=3)"),
    *("nvfp4(block=4)", "nf4(block=4)"),
]


def in_mode(spelling, mode):
    fmt = format(spelling)
    return (
        dataclasses.replace(fmt, rounding=Rounding.parse(mode))
        if "FP[" in spelling
        else (format(with_mode(spelling, rounding=mode)))
    )


def check(x, fmt, axis, seed):
    slow = reference.round_values(x, fmt, axis, seed)
    assert same_bits(in_torch(x, fmt, axis, torch.tensor(seed)), slow), fmt


@pytest.mark.parametrize("mode", ALL_MODES)
def test_elements(mode):
    for n, spelling in enumerate(ELEMENTS):
        fmt = in_mode(spelling, mode)
        for i, dtype in enumerate(DTYPES):
            check(hostile(25, dtype, seed=4 * n + i), fmt, -1, 1 << (n + 20))


@pytest.mark.parametrize("saturation", ["SatPropagate", "SatNone"])
@pytest.mark.parametrize("mode", ALL_MODES)
def test_saturations(mode, saturation):
    for n, (name, fmt) in enumerate(FLOATS.items()):
        fmt = format(with_mode(name, rounding=mode, saturation=saturation))
        check(hostile(25, torch.float32, seed=n), fmt, -1, n)
        check(hostile(25, torch.float64, seed=n), fmt, -1, n)


def blocky(dtype, seed):
    """Tensors whose blocks are hostile, share one scale anywhere in the range, or hold ties."""
    generator = torch.Generator().manual_seed(seed)
    mixed = hostile(21, dtype, seed)
    order = torch.randperm(mixed.numel(), generator=generator)
    yield mixed[order[:90]].view(3, 5, 6)
    exponents = torch.randint(-150, 127, (12, 1), generator=generator).double()
    normal = torch.randn(12, 9, generator=generator, dtype=torch.float64)
    coarse = torch.randint(-255, 256, (12, 9), generator=generator).double() / 128
    for values in (normal, coarse):
        x = (values * 2.0**exponents).to(dtype)
        yield torch.where(x.isfinite(), x, torch.finfo(dtype).max)


@pytest.mark.parametrize("spelling", BLOCKS)
def test_blocks(spelling):
    modes = ("FLOOR", "CEIL", "EVEN", "RCEIL") if spelling.startswith("mx") else (None,)
    for n, mode in enumerate(ALL_MODES):
        for scale in modes:
            fmt = in_mode(spelling if scale is None else with_mode(spelling, mode=scale), mode)
            dtype = DTYPES[(n + modes.index(scale)) % 4]
            for i, x in enumerate(blocky(dtype, seed=8 * n + modes.index(scale))):
                check(x, fmt, (n + i) % x.dim(), 12345 + n)


@pytest.mark.parametrize(
    "spelling",
    [
        "SBFP<XP[4,0](CSN)><FP[0|4|4,7](FN)>{4}",
        "SBFP12_16_12",
        "scaled(fp4_e2m1fn, fp8_e4m3fn)",
        "scaled(fixed(4, 0, symmetric, rounding=Stochastic(8)), fp16(rounding=TowardPositive))",
        "scaled(posit(8, 1), bf16, block=3)",
        "mx(fp8_e3m4, block=4)",
    ],
)
def test_scaled_blocks(spelling):
    for n, dtype in enumerate(DTYPES):
        for i, x in enumerate(blocky(dtype, seed=n)):
            check(x, format(spelling), i % x.dim(), 7)


@pytest.mark.slow
@pytest.mark.parametrize("spelling", [*ELEMENTS, *BLOCKS])
def test_many(spelling):
    for mode in ALL_MODES:
        fmt = in_mode(spelling, mode)
        for i, dtype in enumerate(DTYPES):
            if isinstance(fmt, FloatFormat) or "block" not in spelling:
                check(hostile(600, dtype, seed=i), fmt, -1, i)
            else:
                for seed in range(12):
                    for x in blocky(dtype, seed=seed + 100 * i):
                        check(x, fmt, seed % x.dim(), seed)


@given(
    st.lists(st.floats(width=32, allow_nan=False, allow_infinity=False), min_size=1, max_size=12),
    st.integers(2, 24),
    st.integers(1, 5),
    st.booleans(),
)
def test_block_floating_point_by_fractions(values, mantissa, block, symmetric):
    """A third definition: Python's own rounding of exact fractions."""
    fmt = format(f"bfp(m={mantissa}, block={block}, symmetric={symmetric})")
    y = cast(torch.tensor(values), fmt).double().tolist()
    top = (1 << (mantissa - 1)) - 1
    low = -top if symmetric else -top - 1
    for start in range(0, len(values), block):
        run = [Fraction(v) for v in values[start : start + block]]
        largest = max(map(abs, run))
        exponent = -126
        while exponent < 127 and Fraction(2) ** (exponent + 1) <= largest:
            exponent += 1
        step = Fraction(2) ** (exponent - mantissa + 2)
        expected = [nearest_multiple(v, step, low, top) for v in run]
        largest32 = Fraction(torch.finfo(torch.float32).max)
        assert [Fraction(v) for v in y[start : start + block]] == [
            max(v, -largest32) for v in expected
        ]


def test_shared_exponents_are_the_definition():
    x = torch.randn(5, 12, generator=torch.Generator().manual_seed(0)) * 1e-3
    for mode in ("FLOOR", "CEIL", "EVEN", "RCEIL"):
        fmt = format(f"mxfp6_e2m3(block=4, mode={mode})")
        exponent, finite = shared_exponents(x, fmt)
        assert exponent.shape == finite.shape == (5, 3)
        for row, got in zip(x.view(-1, 4), exponent.flatten().tolist(), strict=True):
            assert got == reference.shared_exponent(Fraction(float(row.abs().max())), fmt)
