"""Which pairs of block formats are multiplied exactly, and that they are: against rational sums."""

from __future__ import annotations

import random
from contextlib import contextmanager
from fractions import Fraction
from functools import cache

import numpy as np
import pytest
import torch

import dovetail as dv
from dovetail.errors import DovetailError
from dovetail.formats.codebook import float32_near
from dovetail.kernels import block, native
from dovetail.kernels.block_pairs import pair_of, qualifies, why_not
from dovetail.kernels.geometry import LINEAR, Geometry
from dovetail.kernels.realisation import using

LEVELS = native.levels()
SBFP = "SBFP<XP[4,0](CSN)><FP[0|4|4,7](FN)>{16}"


FAST = ["torch-products", *LEVELS]


@contextmanager
def running(name):
    if name in LEVELS:
        native.set_isa(name)
        try:
            yield
        finally:
            native.set_isa(None)
    else:
        with using(name):
            yield


@pytest.fixture(params=["reference", *FAST])
def realisation(request):
    with running(request.param):
        yield


@pytest.fixture(params=FAST)
def faster(request):
    with running(request.param):
        yield


def product(x, w, first, second, bias=None):
    return block.emulate(x, w, bias, dv.format(first), dv.format(second), LINEAR)


def rational(x, w) -> Fraction:
    return sum(map(Fraction.__mul__, map(Fraction, x.tolist()), map(Fraction, w.tolist())))


E5M2 = [s * m * 2.0**e for s in (1, -1) for m in (4, 5, 6, 7) for e in range(-16, 14)]
E4M3 = [s * m * 2.0**e for s in (1, -1) for m in range(8, 15) for e in range(-9, 6)]


@pytest.mark.parametrize(
    ("first", "second", "values"),
    [
        ("mxfp8_e4m3", "mxfp8_e4m3", (E4M3, E4M3)),
        ("mxfp8_e5m2", "mxfp8_e5m2", (E5M2, E5M2)),
        ("mxfp8_e5m2", "mxfp8_e4m3", (E5M2, E4M3)),
        ("mxfp8_e4m3", "mxfp8_e5m2", (E4M3, E5M2)),
    ],
)
def test_one_block_is_rounded_once(realisation, first, second, values):
    """One dot of each pair of blocks that span the whole range of their formats, some of whose
    large products cancel: the sum of 69 bits, rounded to 24."""
    draw = random.Random(5)
    rows = [[draw.choice(v) for _ in range(32)] for v in values for _ in range(12)]
    x, w = torch.tensor(rows[:12]), torch.tensor(rows[12:])
    x[:, 0], w[:, 0] = max(values[0]), max(values[1])
    x[:6, 1], w[:6, 1] = max(values[0]), -max(values[1])
    x[:3, 2:], w[:3, 2:] = x[:3, 2:].clamp(-1, 1), w[:3, 2:].clamp(-1, 1)
    x, w = (dv.cast(v, f) for v, f in ((x, first), (w, second)))
    y = product(x, w, first, second)
    expected = [[float32_near(rational(a, b)) for b in w] for a in x]
    assert torch.equal(y, torch.tensor(expected))


def test_a_tie_is_decided_by_the_last_bit(realisation):
    """Just above, at and just below the middle of two floats, by 2**-32."""
    x, w = torch.zeros(3, 32), torch.ones(1, 32)
    w[0, 0] = 2.0**15
    x[:, 0] = 2.0**13  # 2**28, and half of its last bit: 2**4
    x[:, 1] = 16.0
    w[0, 2] = 2.0**-16
    x[:, 2] = torch.tensor([2.0**-16, 0.0, -(2.0**-16)])
    y = product(x, w, "mxfp8_e5m2", "mxfp8_e5m2")
    assert y.flatten().tolist() == [2.0**28 + 32, 2.0**28, 2.0**28]


def test_unequal_blocks_end_with_the_shorter_ones(realisation):
    """Each dot of two is rounded, though the second operand has one scale."""
    x, w = torch.tensor([[2.0**24, 1.0, 1.0, 1.0]]), torch.ones(1, 4)
    # (2**24 + 1) + 2, of which the sum is a tie; not 2**24 + 3
    for first, second in (("bfp(m=20, block=2)", "mxint8(block=4)"), ("mxint8(block=4)",) * 2):
        expected = 2.0**24 + 2 if "m=20" in first else 2.0**24
        assert float(product(x, w, first, second)) == expected
    assert float(product(w, x, "mxint8(block=4)", "bfp(m=20, block=2)")) == 2.0**24 + 2


def test_two_level_scales_come_last(realisation):
    """y = float32(sum of dots with the blocks' scales) * float32(g_x * g_w) + bias."""
    g = torch.Generator().manual_seed(0)
    x, w, bias = (torch.randn(*s, generator=g) for s in ((5, 40), (7, 40), (7,)))
    codes = [dv.encode(v, "nvfp4") for v in (x, w)]
    whole = np.float32(codes[0].tensor_scale) * np.float32(codes[1].tensor_scale)
    inner = [
        dv.cast(v / c.tensor_scale, "nvfp4", scale=1.0) for v, c in zip((x, w), codes, strict=True)
    ]
    sums = torch.zeros(5, 7)
    for k in range(0, 40, 16):  # exact products of 20 bits
        sums += (inner[0][:, k : k + 16].double() @ inner[1][:, k : k + 16].double().mT).float()
    y = product(x, w, "nvfp4", "nvfp4", bias)
    # v / g is not what the format rounds; here no code depends on it.
    torch.testing.assert_close(y, sums * torch.tensor(whole) + bias, rtol=0, atol=0)


def same(a: torch.Tensor, b: torch.Tensor) -> bool:
    """Equal bits, NaN included."""
    return torch.equal(a.view(torch.int32), b.view(torch.int32))


@cache
def defined(first, second, kind):
    """Operands of one kind, and what the loops make of them."""
    g = torch.Generator().manual_seed(0)
    x, w = torch.randn(7, 40, generator=g), torch.randn(3, 40, generator=g)
    rows = {
        "scales": ([1e-30, 1e-5, 2e-3, 1.0, 500.0, 1e6, 3e37], [1.0, 1e-41, 1e37]),
        "tiny": ([1e-42] * 7, [1e-41, 1.0, 0.0]),
        "zeros": ([0.0] * 7, [0.0, 1.0, 1e37]),
        "ends": ([2.0**-140, 2.0**125, 1.0, 2.0**-149, 0, 2, 3], [2.0**-140, 2.0**125, 2.0**-120]),
    }[kind]
    x, w = (v * torch.tensor(by)[:, None] for v, by in zip((x, w), rows, strict=True))
    x[2, 20], x[3, 39] = torch.nan, torch.inf
    with using("reference"):
        return x, w, product(x, w, first, second)


@pytest.mark.parametrize("kind", ["scales", "tiny", "zeros"])
@pytest.mark.parametrize("name", ["nvfp4", SBFP, "scaled(fp4_e2m1fn, fp8_e4m3fn)"])
def test_extreme_scales(faster, name, kind):
    """Scales that are zero, subnormal or saturate; tensors of zeros; NaN beside numbers."""
    x, w, expected = defined(name, name, kind)
    assert same(product(x, w, name, name), expected)


@pytest.mark.parametrize("name", ["mxfp8_e4m3", "mxfp8_e5m2(mode=CEIL)", "mxint8"])
def test_e8m0_at_its_ends(faster, name):
    """2**-127 and 2**127, on either side and on both."""
    x, w, expected = defined(name, "mxfp8_e4m3", "ends")
    assert same(product(x, w, name, "mxfp8_e4m3"), expected)


@pytest.mark.parametrize("acc", ["fp32", "fp16", "bf16(order=tree)"])
def test_accumulators_take_the_terms(faster, acc):
    g = torch.Generator().manual_seed(0)
    x, w, bias = (torch.randn(*s, generator=g) for s in ((5, 40), (7, 40), (7,)))
    for pair in (("nvfp4", "nvfp4"), ("mxfp8_e5m2", "mxfp8_e5m2(block=16)")):
        call = (x, w, bias, *map(dv.format, pair), LINEAR, dv.accumulator(acc))
        y = block.emulate(*call)
        with using("reference"):
            assert torch.equal(y, block.emulate(*call))


def test_matrices_in_batches(faster):
    """NVFP4's tensor scale is that of all matrices together."""
    g = torch.Generator().manual_seed(0)
    x, y = torch.randn(2, 1, 4, 40, generator=g), torch.randn(3, 40, 5, generator=g)
    x[1] *= 100
    fmt = dv.format("nvfp4")
    got = block.matmul(x, y, fmt, dv.format("mxfp8_e4m3"))
    cast = dv.cast(x, fmt) @ dv.cast(y, "mxfp8_e4m3", axis=-2)
    torch.testing.assert_close(got, cast, rtol=1e-4, atol=1e-3)
    with using("reference"):
        assert torch.equal(got, block.matmul(x, y, fmt, dv.format("mxfp8_e4m3")))


def test_what_qualifies():
    def ok(first: str, second: str, *args) -> bool:
        return qualifies(dv.format(first), dv.format(second), *args)

    names = ["mxint8", "mxfp6_e3m2", "mxfp4", "mxfp8_e4m3", "mxfp8_e5m2", "bfp(m=16, block=32)"]
    names += ["nvfp4", SBFP]
    assert all(ok(a, b) for a in names for b in names if {a, b} & {"nvfp4", SBFP} != {a, b})
    assert ok("nvfp4", "nvfp4")
    assert ok("mxint8(rounding=Stochastic)", "mxint8")
    assert not ok("int8", "int8")
    assert not ok("mxint8", "fp8_e4m3")
    along, across = "bfp(m=8, block=32, axis=1)", "bfp(m=8, block=32, axis=0)"
    assert ok(along, along, Geometry.conv(2))
    assert not ok(across, along, Geometry.conv(2))
    assert not ok(across, across)


@pytest.mark.parametrize(
    ("first", "second", "reason"),
    [
        ("mxint8", "bfp(m=8, block=48)", "blocks of 32 and of 48 do not nest"),
        ("mxint8", "nf4(block=32)", "elements that are looked up"),
        ("mxint8", "fp8_e4m3", "weight=fp8_e4m3fn has no blocks"),
        ("mxfp8_e5m2(block=128)", "mxfp8_e5m2(block=128)", "too many bits"),
        ("nvfp4(rounding=Stochastic)", "mxint8", "rounds stochastically"),
        ("mxfp8_e5m2(rounding=Stochastic)", "mxfp8_e5m2", "too many bits"),
        ("scaled(fp4_e2m1fn, fp32)", "mxint8", "scales of too many bits"),
        ("scaled(fp8_e5m2(saturation=SatNone), fp8_e4m3)", "mxint8", "may overflow"),
    ],
)
def test_what_does_not(first, second, reason):
    formats = dv.format(first), dv.format(second)
    assert reason in str(why_not(*formats))
    with pytest.raises(DovetailError, match=r"products of blocks: .*nearest"):
        product(torch.ones(1, 8), torch.ones(1, 8), first, second)


def test_facts():
    e5m2, e4m3 = dv.format("mxfp8_e5m2"), dv.format("mxfp8_e4m3")
    assert pair_of(e4m3, e4m3).bound < 2**41
    assert pair_of(e4m3, e4m3).split == 0
    assert pair_of(e5m2, e4m3).split == 2
    assert pair_of(e5m2, dv.format("mxint8(block=8)")).dot == 8
    nvfp4 = pair_of(dv.format("nvfp4"), dv.format("nvfp4"))
    assert nvfp4.bound == 16 * 12**2 * 15**2 < 2**20
