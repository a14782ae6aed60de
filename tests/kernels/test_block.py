"""Products of block formats: every realisation equals the loops of the definition, bit for bit."""

from __future__ import annotations

from functools import cache

import pytest
import torch
import torch.nn.functional as F

import dovetail as dv
from block_products import by_definition, extreme, fast, same, spread
from dovetail.errors import DovetailError
from dovetail.kernels import block, block_codes, native, native_block
from dovetail.kernels.block_pairs import pair_of
from dovetail.kernels.geometry import LINEAR, Geometry
from dovetail.kernels.realisation import using

LEVELS = native.levels()
SBFP = "SBFP<XP[4,0](CSN)><FP[0|4|4,7](FN)>{16}"
FORMATS = [
    "bfp(m=8, block=8)",
    "bfp(m=8, block=32)",
    "bfp(m=8, block=128, symmetric=False)",
    "bfp(m=3, block=9)",
    "bfp(m=12, block=16)",
    "bfp(m=16, block=48)",  # dots beyond 2**24, and beyond 31 bits
    "mxint8",
    "mxint8(block=16, mode=RCEIL)",
    "mxfp4",
    "mxfp4(mode=EVEN)",
    "mxfp6_e3m2(block=64)",  # integers of ten bits
    "mxfp6_e2m3(mode=CEIL)",
    "bfp(m=8, block=16, rounding=TowardZero)",
    "mxfp8_e4m3",
    "mxfp8_e4m3(block=16, mode=EVEN)",
    "mxfp8_e5m2",  # dots beyond 2**53
    "bfp(m=23, block=16)",
    "nvfp4",
    SBFP,
    "scaled(fp6_e3m2fn, bf16, block=24)",
]
PAIRS = [
    ("mxint8", "mxfp4"),
    ("bfp(m=12, block=32)", "bfp(m=4, block=32)"),
    ("mxfp8_e5m2", "mxfp8_e4m3"),
    ("mxint8(block=16)", "bfp(m=8, block=48)"),  # blocks of one in blocks of the other
    ("mxfp8_e4m3(block=64)", "mxfp8_e5m2(block=8)"),
    ("mxfp4(block=24)", "nvfp4(block=8)"),
    ("nvfp4", "mxfp8_e4m3"),
]


SHAPES = [(1, 1, 1), (1, 40, 3), (7, 75, 5), (8, 64, 35)]


@cache
def linear_case(first: str, second: str, shape: tuple[int, int, int], kind: str):
    m, k, n = shape
    binades = {"plain": 1, "spread": 12, "extreme": 60}[kind]
    x, w = spread(m, k, seed=m, binades=binades), spread(n, k, seed=99, binades=binades)
    if kind == "extreme":
        x, w = extreme(x), extreme(w)
    bias = spread(n, seed=7) if k != 75 else None
    return x, w, bias, by_definition(x, w, bias, first, second)


@pytest.mark.parametrize("kind", ["plain", "spread", "extreme"])
@pytest.mark.parametrize("pair", [(f, f) for f in FORMATS] + PAIRS, ids=str)
def test_linear(realisation, pair, kind):
    for shape in SHAPES:
        x, w, bias, expected = linear_case(*pair, shape, kind)
        assert same(fast(x, w, bias, *pair), expected), shape


CONVS = [
    # x, w, arguments
    ((2, 20, 4, 5), (3, 20, 3, 3), {"padding": 1}),
    ((1, 6, 7, 6), (6, 3, 3, 3), {"padding": 1, "groups": 2, "stride": 2}),
    ((1, 3, 6, 7), (3, 1, 3, 3), {"padding": 2, "groups": 3, "dilation": 2}),
    ((2, 33, 3, 2), (40, 33, 1, 1), {}),
    ((2, 5, 9, 9), (4, 5, 1, 1), {"stride": 3}),
    ((2, 7, 13), (5, 7, 5), {"stride": 3, "padding": [(0, 3)]}),
    ((5, 4, 3, 3), (3, 4, 3, 3), {}),  # one output pixel an image
    ((3, 4, 3, 5), (2, 4, 3, 3), {"padding": [(0, 0), (0, 1)]}),
    ((1, 3, 3, 4, 5), (2, 3, 2, 2, 3), {"padding": 1}),
]


@cache
def conv_case(i: int, name: str):
    x_shape, w_shape, arguments = CONVS[i]
    geometry = Geometry.conv(len(x_shape) - 2, **arguments)
    x, w, bias = spread(*x_shape), spread(*w_shape, seed=1), spread(w_shape[0], seed=2)
    x[0, 0] *= 2.0**-100
    w[0, -1] = 1e30
    x[0, -1].view(-1)[-1] = torch.inf
    return x, w, bias, geometry, by_definition(x, w, bias, name, name, geometry)


@pytest.mark.parametrize("i", range(len(CONVS)))
def test_conv(realisation, i):
    for name in ("bfp(m=8, block=16)", "mxfp6_e3m2(block=8)", "mxfp8_e5m2", "nvfp4(block=8)"):
        x, w, bias, geometry, expected = conv_case(i, name)
        assert same(fast(x, w, bias, name, name, geometry), expected), name


def test_padding_is_zeros(realisation):
    """Also for a weight without value: zero times NaN is NaN."""
    x, w = spread(1, 4, 3, 3), spread(2, 4, 3, 3, seed=1)
    w[0, 0, 0, 0] = torch.nan
    padded = fast(x, w, None, "mxint8", "mxint8", Geometry.conv(2, padding=1))
    explicit = fast(F.pad(x, [1] * 4), w, None, "mxint8", "mxint8", Geometry.conv(2))
    assert same(padded, explicit)
    assert bool(padded[0, 0].isnan().all())


def test_order_is_that_of_the_hardware():
    """Where exponents spread, rounding and a float32 product differ from the stated order; on plain
    normal numbers every partial sum is exact, and they agree."""
    fmt = dv.format("mxint8")
    for binades, exactly in ((0, True), (12, False)):
        x, w = spread(64, 256, binades=binades), spread(64, 256, seed=1, binades=binades // 2)
        # Exponents that vary by block, not within it.
        if binades:
            powers = torch.randint(-binades, binades, (64, 8), generator=torch.Generator())
            x = torch.randn(64, 256) * torch.exp2(powers.float()).repeat_interleave(32, 1)
        y = fast(x, w, None, "mxint8", "mxint8")
        faked = F.linear(dv.cast(x, fmt), dv.cast(w, fmt))
        assert torch.equal(y, faked) == exactly
        torch.testing.assert_close(y, faked, rtol=1e-5, atol=1e-5 * float(y.abs().max()))


@pytest.mark.parametrize("threads", [1, 2, 3])
def test_threads(realisation, threads):
    before = torch.get_num_threads()
    x, w = spread(37, 96), spread(75, 96, seed=1)
    expected = fast(x, w, None, "mxint8", "mxint8")
    try:
        torch.set_num_threads(threads)
        assert same(fast(x, w, None, "mxint8", "mxint8"), expected)
    finally:
        torch.set_num_threads(before)


def test_shapes_and_strides(realisation):
    w = spread(5, 24, seed=1)
    x = spread(24, 6).t()
    expected = fast(x.contiguous(), w, None, "mxint8", "mxint8")
    assert same(fast(x, w, None, "mxint8", "mxint8"), expected)
    assert same(fast(x.view(2, 3, 24), w, None, "mxint8", "mxint8"), expected.view(2, 3, 5))
    assert same(fast(x[0], w, None, "mxint8", "mxint8"), expected[0])
    assert fast(x[:0], w, None, "mxint8", "mxint8").shape == (0, 5)
    image = spread(2, 5, 5, 12).movedim(-1, 1)  # channels last
    kernel, geometry = spread(4, 12, 3, 3, seed=3), Geometry.conv(2)
    got = fast(image, kernel, None, "mxfp4", "mxfp4", geometry)
    assert same(got, fast(image.contiguous(), kernel, None, "mxfp4", "mxfp4", geometry))
    assert fast(image[:0], kernel, None, "mxfp4", "mxfp4", geometry).shape == (0, 4, 3, 3)


@pytest.mark.parametrize("name", ["mxint8", "mxfp8_e4m3(block=10000)", "bfp(m=16, block=4096)"])
def test_many_blocks_and_large_ones(realisation, name):
    x, w, expected = long_case(name)
    assert same(fast(x, w, None, name, name), expected)


@cache
def long_case(name: str):
    x, w = spread(1, 8_001, binades=3), spread(2, 8_001, seed=1, binades=3)
    return x, w, by_definition(x, w, None, name, name)


def test_groups_of_a_linear_layer(realisation):
    fmt, geometry = dv.format("mxint8(block=16)"), Geometry(groups=3)
    x, w, bias = extreme(spread(9, 3 * 40)), extreme(spread(3 * 5, 40, seed=1)), spread(15, seed=2)
    y = block.emulate(x, w, bias, fmt, fmt, geometry)
    with using("reference"):
        assert same(y, block.emulate(x, w, bias, fmt, fmt, geometry))
    apart = [
        block.emulate(x[:, 40 * g :][:, :40], w[5 * g :][:5], bias[5 * g :][:5], fmt, fmt, LINEAR)
        for g in range(3)
    ]
    assert same(y, torch.cat(apart, 1))


def test_many_rows_in_parts(realisation):
    """More rows than are laid out at a time give what fewer give."""
    x, w = spread(1500, 1000), spread(3, 1000, seed=1)
    whole = fast(x, w, None, "mxint8", "mxint8")
    assert same(whole[1400:], fast(x[1400:].contiguous(), w, None, "mxint8", "mxint8"))


@pytest.mark.parametrize("dtype", [torch.float16, torch.bfloat16, torch.float64])
def test_other_dtypes(realisation, dtype):
    x, w = spread(5, 40, binades=2).to(dtype), spread(3, 40, seed=1, binades=2).to(dtype)
    y = fast(x, w, None, "mxint8", "mxfp4")
    assert y.dtype == dtype
    with using("reference"):
        assert torch.equal(y, fast(x, w, None, "mxint8", "mxfp4"))


@pytest.mark.skipif(not LEVELS, reason="the native core is not built")
@pytest.mark.parametrize("name", [f for f in FORMATS if "rounding" not in f])
def test_native_rounding(realisation, name):
    fmt = dv.format(name)
    for binades in (0, 3, 60):
        x = extreme(spread(40, 75, binades=binades))
        got, expected = native_block.quantize(x, fmt), block_codes.encode(x, fmt)
        used = (expected.codes != 0).any(-1) | expected.scales.isnan()
        assert torch.equal(got.codes, expected.codes)
        assert torch.equal(got.scales[used].nan_to_num(), expected.scales[used].nan_to_num())
        assert torch.equal(got.scales.isnan(), expected.scales.isnan())


@pytest.mark.skipif(not LEVELS, reason="the native core is not built")
def test_weights_packed_for_another_level_are_refused():
    x, fmt = spread(2, 8), dv.format("mxint8")
    if len(LEVELS) < 2:
        pytest.skip("one level only")
    try:
        native.set_isa(LEVELS[0])
        packed = native_block.pack(x, pair_of(fmt, fmt), LINEAR)
        native.set_isa(LEVELS[1])
        with pytest.raises(DovetailError, match="level"):
            native_block.block_mac(x, packed, None)
    finally:
        native.set_isa(None)


@pytest.mark.parametrize("rows", [1, 8, 9, 40])  # few rows meet weights in another order
def test_few_rows_and_many(realisation, rows):
    w, fmt = extreme(spread(70, 100, seed=1)), dv.format("mxint8(block=16)")
    x = extreme(spread(40, 100))
    whole = block.emulate(x, w, None, fmt, fmt, LINEAR)
    assert same(block.emulate(x[:rows], w, None, fmt, fmt, LINEAR), whole[:rows])


def test_packed_weights_follow_the_weight():
    x, w = spread(3, 40), torch.nn.Parameter(spread(4, 40, seed=1))
    with torch.no_grad():
        first = fast(x, w, None, "mxint8", "mxint8")
        w.mul_(2)
        assert torch.equal(fast(x, w, None, "mxint8", "mxint8"), 2 * first)
