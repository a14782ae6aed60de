"""Floating-point multipliers: every realisation equals the loops of the definition, bit for bit."""

from __future__ import annotations

from functools import cache

import numpy as np
import pytest
import torch

import dovetail as dv
from dovetail.accumulators import accumulator
from dovetail.errors import DovetailError
from dovetail.kernels import float_library, float_mac, native, native_float
from dovetail.kernels.geometry import LINEAR, Geometry
from dovetail.kernels.realisation import using
from dovetail.multipliers import any_multiplier

LEVELS = native.levels()
NATIVE = [
    "exact(format=bf16)",
    "exact(format=fp16)",
    "truncate(drop_first=4, drop_second=2, format=bf16)",
    "drum(k=3, format=fp8_e4m3fn)",
    "l_mul(format=bf16)",
    "l_mul(format=fp8_e5m2)",
    "mitchell(format=fp16)",
    "mitchell(format=float(e=4, m=3, subnormals=False))",
    "kulkarni(format=fp8_e4m3fn)",
    "mbm(format=fp4_e2m1fn)",
    "mbm(format=float(e=4, m=4))",
    "mbm(format=bf16)",
    "kulkarni(format=fp16)",
]
TORCH = [
    "mitchell(format=bf16, output=bf16)",
    "exact(format=fp8_e4m3fn, output=fp8_e4m3fn)",
    "l_mul(format=fp16, output=float(e=5, m=10, subnormals=False, rounding=TowardZero))",
    "mitchell(format=float(e=6, m=12))",
]


@pytest.fixture(params=["torch", *LEVELS])
def realisation(request):
    if request.param == "torch":
        with using("torch-products"):
            yield request.param
    else:
        native.set_isa(request.param)
        yield request.param
        native.set_isa(None)


def odd_table(m: int) -> dv.FloatMultiplier:
    """Asymmetric, of full rank, with products of zero; of fractions, not significands."""
    table = np.random.default_rng(m).integers(0, 1 << 2 * m + 2, (1 << m, 1 << m))
    table[0, 1] = table[1, 0] = 0
    return dv.float_multiplier(f"float(e=6, m={m})", table)


def same(a: torch.Tensor, b: torch.Tensor) -> bool:
    """Equal bits, NaN included."""
    return torch.equal(a.view(torch.int32), b.view(torch.int32))


def values(mul: dv.FloatMultiplier, *shape: int, seed: int = 0, kind: str = "plain"):
    """Values of the multiplier's format, with zeros; ``extreme``: all that the format has."""
    g = torch.Generator().manual_seed(seed)
    binades = {"plain": 2, "spread": 40, "extreme": 140}[kind]
    x = torch.randn(*shape, generator=g)
    x *= torch.exp2(torch.randint(-binades, binades + 1, shape, generator=g).float())
    x.clamp_(-3e38, 3e38)
    fmt, flat = mul.format, x.view(-1)
    flat[:: 7 + seed], flat[3 :: 13 + seed] = 0.0, -0.0
    if kind == "extreme":
        ends = [fmt.max, -fmt.max, fmt.smallest_subnormal, -fmt.smallest_normal]
        ends += [torch.inf, -torch.inf] if fmt.has_inf else []
        ends += [torch.nan] if fmt.has_nan else []
        places = torch.randint(0, flat.numel(), (2 * len(ends),), generator=g)
        flat[places] = torch.tensor(ends * 2)
        flat[places[4:]] = torch.where(torch.rand(places[4:].shape, generator=g) < 0.6, 1.0, 0.0)
    return torch.where(x.isfinite(), dv.cast(x, fmt), x)


def fast(x, w, bias, mul, geometry=LINEAR, acc=None):
    return float_mac.emulate(x, w, bias, mul, acc, geometry)


def by_definition(*args, **kwargs):
    with using("reference"):
        return fast(*args, **kwargs)


def bias_of(n: int) -> torch.Tensor:
    return torch.randn(n, generator=torch.Generator().manual_seed(5))


@cache
def linear_case(spec: str, kind: str):
    mul = odd_table(int(spec)) if spec.isdigit() else any_multiplier(spec)
    x, w = values(mul, 8, 19, kind=kind), values(mul, 5, 19, seed=1, kind=kind)
    return mul, x, w, bias_of(5), by_definition(x, w, bias_of(5), mul)


@pytest.mark.parametrize("kind", ["plain", "spread", "extreme"])
@pytest.mark.parametrize("spec", [*NATIVE, "1", "3", "4", "5", "7"])
def test_linear(realisation, spec, kind):
    mul, x, w, bias, expected = linear_case(spec, kind)
    assert native_float.computes(mul)
    assert same(fast(x, w, bias, mul), expected)


@pytest.mark.parametrize("spec", TORCH)
def test_linear_in_torch_alone(spec):
    for kind in ("plain", "extreme"):
        mul, x, w, bias, expected = linear_case(spec, kind)
        assert not native_float.computes(mul)
        assert same(fast(x, w, bias, mul), expected), kind


CONVS = [
    # x, w, arguments
    ((2, 4, 4, 5), (3, 4, 3, 3), {"padding": 1}),
    ((1, 6, 7, 6), (6, 3, 3, 3), {"padding": 1, "groups": 2, "stride": 2}),
    ((1, 3, 6, 7), (3, 1, 3, 3), {"padding": 2, "groups": 3, "dilation": 2}),
    ((2, 9, 3, 2), (8, 9, 1, 1), {}),
    ((2, 5, 9, 9), (4, 5, 1, 1), {"stride": 3}),
    ((2, 3, 13), (5, 3, 5), {"stride": 3, "padding": [(0, 3)]}),
    ((3, 4, 3, 3), (3, 4, 3, 3), {}),  # one output pixel an image
    ((1, 2, 3, 4, 5), (2, 2, 2, 2, 3), {"padding": 1}),
]
CONV_MULS = ["truncate(drop_first=4, drop_second=2, format=bf16)", "l_mul(format=bf16)", "3", "6"]


@cache
def conv_case(i: int, spec: str):
    x_shape, w_shape, arguments = CONVS[i]
    mul = odd_table(int(spec)) if spec.isdigit() else any_multiplier(spec)
    geometry = Geometry.conv(len(x_shape) - 2, **arguments)
    kind = "extreme" if i % 2 else "plain"
    x, w = values(mul, *x_shape, kind=kind), values(mul, *w_shape, seed=1, kind=kind)
    bias = bias_of(w_shape[0])
    return mul, x, w, bias, geometry, by_definition(x, w, bias, mul, geometry)


@pytest.mark.parametrize("i", range(len(CONVS)))
def test_conv(realisation, i):
    for spec in CONV_MULS[i % 2 :: 2]:
        mul, x, w, bias, geometry, expected = conv_case(i, spec)
        assert same(fast(x, w, bias, mul, geometry), expected), spec


def test_padding_is_multiplied(realisation):
    """A padded pixel is a zero: times infinity it is NaN."""
    mul = any_multiplier("l_mul(format=bf16)")
    x, w = torch.ones(1, 1, 3, 3), torch.ones(1, 1, 3, 3)
    w[0, 0, 0, 0] = torch.inf
    y = fast(x, w, None, mul, Geometry.conv(2, padding=1))[0, 0]
    assert y.isnan().tolist() == [[True, True, True], [True, False, False], [True, False, False]]


def test_each_sum_is_rounded_in_order(realisation):
    """2**24 + 1 + 1 in float32 stays, the other way round it does not."""
    mul = any_multiplier("exact(format=bf16)")
    x = torch.tensor([[2.0**24, 1, 1], [1, 1, 2.0**24]])
    assert fast(x, torch.ones(1, 3), None, mul).flatten().tolist() == [2.0**24, 2.0**24 + 2]


def big(shape, seed, binades=20):
    g = torch.Generator().manual_seed(seed)
    x = torch.randn(*shape, generator=g)
    x *= torch.exp2(torch.randint(-binades, binades + 1, shape, generator=g).float())
    return x.masked_fill(torch.rand(*shape, generator=g) < 0.1, 0.0)


BIG = ["exact(format=bf16)", "l_mul(format=bf16)", "mbm(format=fp8_e5m2)", "mbm(format=bf16)"]


@cache
def big_case(spec: str):
    mul = any_multiplier(spec)
    x, w = dv.cast(big((37, 96), 0), mul.format), dv.cast(big((150, 96), 1), mul.format)
    with using("torch-products"):
        return mul, x, w, fast(x, w, None, mul)


@pytest.mark.skipif(not LEVELS, reason="the native core is not built")
@pytest.mark.parametrize("threads", [1, 2, 3])
@pytest.mark.parametrize("spec", BIG)
def test_threads_and_splits(realisation, spec, threads):
    mul, x, w, expected = big_case(spec)
    before = torch.get_num_threads()
    try:
        torch.set_num_threads(threads)
        assert same(fast(x, w, None, mul), expected)
        assert same(fast(x[5:6], w, None, mul), expected[5:6])
        assert same(fast(x[3:20], w[70:77], None, mul), expected[3:20, 70:77])
        image = x.t().reshape(1, 96, 37)
        y = fast(image, w[..., None], None, mul, Geometry.conv(1))
        assert same(y[0].t().contiguous(), expected)
    finally:
        torch.set_num_threads(before)


def test_one_far_row_leaves_the_others_as_they_are(realisation):
    """A tile whose products leave float32's range is computed otherwise."""
    mul = any_multiplier("l_mul(format=bf16)")
    x, w = dv.cast(big((9, 12), 0), "bf16"), dv.cast(big((70, 12), 1), "bf16")
    plain = fast(x, w, None, mul)
    x[4] *= 2.0**-110
    w[66] *= 2.0**90
    mixed = fast(x, w, None, mul)
    others = [i for i in range(9) if i != 4]
    assert same(mixed[others, :66], plain[others, :66])
    assert same(mixed[3:6, 60:], by_definition(x[3:6], w[60:], None, mul))


def test_many_rows_in_parts(realisation):
    mul = any_multiplier("l_mul(format=fp8_e4m3fn)")
    x, w = dv.cast(big((2100, 520), 0, 3), mul.format), dv.cast(big((3, 520), 1, 3), mul.format)
    whole = fast(x, w, None, mul)
    assert same(whole[2010:], fast(x[2010:].contiguous(), w, None, mul))


def test_shapes_strides_and_dtypes(realisation):
    mul = any_multiplier("l_mul(format=bf16)")
    w, x = values(mul, 5, 24, seed=1), values(mul, 24, 6).t()
    expected = fast(x.contiguous(), w, None, mul)
    assert same(fast(x, w, None, mul), expected)
    assert same(fast(x.view(2, 3, 24), w, None, mul), expected.view(2, 3, 5))
    assert same(fast(x[0], w, None, mul), expected[0])
    for dtype in (torch.bfloat16, torch.float64):
        assert same(fast(x.to(dtype), w.to(dtype), None, mul), expected)
    assert fast(x[:0], w, None, mul).shape == (0, 5)
    empty = fast(torch.zeros(2, 0), torch.zeros(3, 0), torch.ones(3), mul)
    assert torch.equal(empty, torch.ones(2, 3))
    image = values(mul, 2, 5, 5, 12).movedim(-1, 1)  # channels last
    kernel, geometry = values(mul, 4, 12, 3, 3, seed=3), Geometry.conv(2)
    got = fast(image, kernel, None, mul, geometry)
    assert same(got, fast(image.contiguous(), kernel, None, mul, geometry))
    assert fast(image[:0], kernel, None, mul, geometry).shape == (0, 4, 3, 3)


@pytest.mark.parametrize("acc", ["fp32(order=tree)", "bf16", "fp16(chunk=4)", "fp8_e5m2(end)"])
@pytest.mark.parametrize("spec", ["l_mul(format=bf16)", "mbm(format=fp8_e4m3fn)"])
def test_accumulators(spec, acc):
    mul, made = any_multiplier(spec), accumulator(acc)
    x, w = values(mul, 3, 11), values(mul, 4, 11, seed=1)
    assert same(fast(x, w, None, mul, acc=made), by_definition(x, w, None, mul, acc=made))
    geometry = Geometry.conv(1, padding=1)
    x, w = values(mul, 1, 3, 5), values(mul, 2, 3, 3, seed=1)
    expected = by_definition(x, w, None, mul, geometry, acc=made)
    assert same(fast(x, w, None, mul, geometry, acc=made), expected)


def test_float32_in_order_is_no_accumulator():
    mul = any_multiplier("mitchell(format=bf16)")
    x, w = values(mul, 3, 40, kind="spread"), values(mul, 4, 40, seed=1, kind="spread")
    assert same(fast(x, w, None, mul, acc=accumulator("fp32")), fast(x, w, None, mul))


@pytest.mark.parametrize("shapes", [((2, 3, 4, 9), (2, 3, 9, 5)), ((3, 4, 9), (9, 2))])
def test_matmul(realisation, shapes):
    mul = any_multiplier("l_mul(format=bf16)")
    x, w = values(mul, *shapes[0]), values(mul, *shapes[1], seed=1)
    got = float_mac.matmul(x, w, mul, None)
    batch = got.shape[:-2]
    pairs = zip(x.reshape(-1, 4, 9), w.expand(*batch, *w.shape[-2:]).flatten(0, -3), strict=True)
    expected = [by_definition(a, b.mT, None, mul) for a, b in pairs]
    assert same(got, torch.stack(expected).reshape(got.shape))
    assert float_mac.matmul(x[..., :0], w[..., :0, :], mul, None).eq(0).all()
    one = float_mac.matmul(x.reshape(-1, 4, 9)[0], w, mul, None)
    assert same(one.reshape(-1, *one.shape[-2:])[0], expected[0])


def test_ops_are_well_formed():
    mul = any_multiplier("l_mul(format=bf16)")
    x, w, b = values(mul, 3, 10), values(mul, 5, 10, seed=1), bias_of(5)
    words = (repr(mul), "")
    tests = ("test_schema", "test_faketensor", "test_aot_dispatch_static")
    linear = (x, w, b, [], [], [], 1, *words)
    torch.library.opcheck(float_library.float_mac.default, linear, test_utils=tests)
    image = (values(mul, 2, 6, 5, 5), values(mul, 4, 3, 3, 3), None)
    window = ([2, 1], [1, 1, 0, 2], [1, 1], 2)
    args = (*image, *window, repr(mul), "fp16")
    torch.library.opcheck(float_library.float_mac.default, args, test_utils=tests)
    args = (values(mul, 2, 3, 10), values(mul, 10, 5, seed=1), *words)
    torch.library.opcheck(float_library.float_matmul.default, args, test_utils=tests)
    stacked = torch.func.vmap(lambda a: float_library.float_mac(a, w, b, [], [], [], 1, *words))(
        torch.stack([x, x + x])
    )
    assert same(stacked[1], fast(x + x, w, b, mul))


def test_refusals():
    mul = any_multiplier("l_mul(format=bf16)")
    x = torch.ones(1, 3)
    with pytest.raises(DovetailError, match="acc=int32 sums integers"):
        fast(x, x, None, mul, acc=accumulator("int32"))
    with pytest.raises(DovetailError, match=r"the input has dtype torch\.int64"):
        fast(x.long(), x, None, mul)
    with pytest.raises(DovetailError, match=r"linear takes a \[..., K\]"):
        fast(x, torch.ones(1, 4), None, mul)
    with pytest.raises(DovetailError, match="multiplies codes"):
        float_library.float_matmul(x, x.t(), "drum(k=6)", "")


@pytest.mark.skipif(not LEVELS, reason="the native core is not built")
def test_a_weight_packed_by_another_level_is_refused():
    mul = any_multiplier("l_mul(format=bf16)")
    packed = native_float.pack(torch.ones(2, 3), mul, LINEAR)
    native.set_isa(next(level for level in LEVELS if level != native.isa()))
    try:
        with pytest.raises(DovetailError, match="level"):
            native_float.float_mac(torch.ones(1, 3), packed, None)
    finally:
        native.set_isa(None)
