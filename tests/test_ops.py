"""``linear_codes`` and ``conv_codes`` against plain loops, for every realisation that holds."""

from __future__ import annotations

import numpy as np
import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st

import dovetail as dv
from dovetail.kernels import using
from dovetail.kernels.realisation import Operands, _register
from dovetail.ops import conv_codes, linear_codes
from helpers import (
    CIRCUITS,
    REALISATIONS,
    conv_loop,
    holds,
    linear_loop,
    random_codes,
    random_table,
)

# What each is there for: f(0, 0) != 0 and no symmetry at all; nearly every product zero; entries
# over the whole of int32; one operand unused; a constant.
FULL = np.random.default_rng(5).integers(-(2**31), 2**31, (256, 256), dtype=np.int64)


TABLES = {
    "random": random_table(0),
    "random-small": random_table(1, -100, 100),
    "random-int16": random_table(9, -(2**15), 2**15),
    "sparse": random_table(2, sparse=True),
    "full-int32": dv.multiplier(FULL.astype(np.int32)),
    "first-only": dv.multiplier(np.repeat(np.arange(256)[:, None], 256, 1)),
    "second-only": dv.multiplier(np.repeat(np.arange(256)[None] - 7, 256, 0)),
    "constant": dv.multiplier(np.full((256, 256), 3)),
    "zero": dv.multiplier(np.zeros((256, 256), dtype=np.int32)),
    "unsigned": dv.multiplier(FULL.astype(np.int32) >> 12, signed=False),
}


FAMILIES = [
    "exact(bits=8)",
    "exact(bits=8, signed=False)",
    "truncate(bits=8, drop_first=2, drop_second=1)",
    "drum(k=4, bits=8)",
    "drum(k=6, bits=8, signed=False)",
    "mitchell(bits=8)",
    "broken_array(bits=8, drop_columns=5)",
]


EVERY = {**TABLES, **{name: name for name in CIRCUITS + FAMILIES}}


WIDE = [
    *[m.spelling for m in dv.catalog() if m.bits != (8, 8)][::4],
    "drum(k=5, bits=12)",
    "mitchell(bits=12)",
    "drum(k=6, bits=16)",
]


def pairs(names=EVERY):
    """Every (realisation, multiplier) of which the realisation says that it holds."""
    return [
        pytest.param(real, dv.multiplier(names[key]), id=f"{real}-{key}")
        for real in REALISATIONS
        for key in names
        if holds(real, dv.multiplier(names[key]))
    ]


def same(got: torch.Tensor, wanted: torch.Tensor) -> bool:
    return got.shape == wanted.shape and torch.equal(got.to(torch.int64), wanted)


def test_every_multiplier_has_a_realisation_besides_the_reference():
    for spec in (*EVERY.values(), *WIDE):
        m = dv.multiplier(spec)
        assert any(holds(real, m) for real in REALISATIONS if real != "reference")


@pytest.mark.parametrize(("real", "mul"), pairs())
def test_linear_is_the_triple_loop(real, mul):
    a = random_codes((3, 17), signed=mul.signed, seed=1)
    w = random_codes((5, 17), signed=mul.signed, seed=2)
    with using(real):
        assert same(linear_codes(a, w, mul), linear_loop(a, w, mul))


@pytest.mark.parametrize(("real", "mul"), pairs())
def test_conv_is_the_loop(real, mul):
    """Stride, dilation, asymmetric padding with a code that is not zero, two groups."""
    a = random_codes((1, 4, 5, 4), signed=mul.signed, seed=1)
    w = random_codes((4, 2, 2, 3), signed=mul.signed, seed=2)
    how = {
        "stride": (2, 1),
        "padding": [(1, 0), (2, 1)],
        "dilation": (1, 2),
        "groups": 2,
        "pad_code": 7,
    }
    with using(real):
        assert same(conv_codes(a, w, mul, **how), conv_loop(a, w, mul, **how))


SOME = {key: EVERY[key] for key in ("random", "random-small", "sparse", "full-int32", "unsigned")}


SOME |= {
    key: key for key in ("mul8s_1KXF@v2022", "mul8s_1L2H@v1.1", "mul8u_2HH@v1.1") if key in EVERY
}


SOME |= {"exact(bits=8)": "exact(bits=8)"}


@pytest.mark.parametrize(("real", "mul"), pairs(SOME))
@pytest.mark.parametrize("k", [1, 3, 17, 65, 130])
def test_linear_any_reduction_length(real, mul, k):
    """A tail of K that a kernel fills up must not contribute, also where f(0, 0) != 0."""
    for m, n in ((1, 1), (2, 9), (5, 3)):
        a = random_codes((m, k), signed=mul.signed, seed=k)
        w = random_codes((n, k), signed=mul.signed, seed=k + 1)
        with using(real):
            assert same(linear_codes(a, w, mul), linear_loop(a, w, mul))


@pytest.mark.parametrize(("real", "mul"), pairs({k: SOME[k] for k in ("random", "full-int32")}))
@pytest.mark.parametrize("n", [1, 15, 16, 17, 33, 64, 70])
def test_linear_any_number_of_outputs(real, mul, n):
    a, w = random_codes((2, 7), seed=n), random_codes((n, 7), seed=n + 1)
    with using(real):
        assert same(linear_codes(a, w, mul), linear_loop(a, w, mul))


@pytest.mark.parametrize(("real", "mul"), pairs({"random": EVERY["random"]}))
class TestShapes:
    def test_leading_dimensions(self, real, mul):
        a, w = random_codes((2, 3, 2, 9)), random_codes((4, 9), seed=1)
        with using(real):
            assert same(linear_codes(a, w, mul), linear_loop(a, w, mul))
            assert same(linear_codes(a[0, 0, 0], w, mul), linear_loop(a[0, 0, 0], w, mul))

    def test_empty_batch(self, real, mul):
        with using(real):
            y = linear_codes(torch.empty(0, 9, dtype=torch.int8), random_codes((4, 9)), mul)
            z = conv_codes(
                torch.empty(0, 2, 5, dtype=torch.int8), random_codes((4, 2, 3)), mul, padding=1
            )
        assert y.shape == (0, 4)
        assert z.shape == (0, 4, 5)

    def test_no_products(self, real, mul):
        """K = 0: sums of nothing are zero, whatever f(0, 0) is."""
        with using(real):
            y = linear_codes(
                torch.empty(3, 0, dtype=torch.int8), torch.empty(2, 0, dtype=torch.int8), mul
            )
        assert y.tolist() == [[0, 0]] * 3

    def test_no_outputs(self, real, mul):
        with using(real):
            y = linear_codes(random_codes((3, 4)), torch.empty(0, 4, dtype=torch.int8), mul)
        assert y.shape == (3, 0)

    @pytest.mark.parametrize(
        "make",
        [
            lambda t: t.mT.contiguous().mT,
            lambda t: torch.stack([t, t + 1], -1)[..., 0],
            lambda t: torch.cat([t, t], 0)[::2],
            lambda t: t[:1].expand_as(t),
        ],
        ids=["transposed", "strided", "sliced", "expanded"],
    )
    def test_not_contiguous(self, real, mul, make):
        a, w = make(random_codes((6, 9))), make(random_codes((4, 9), seed=1))
        with using(real):
            assert same(linear_codes(a, w, mul), linear_loop(a, w, mul))
        x = make(random_codes((2, 3, 4, 4)).reshape(6, 16)).reshape(2, 3, 4, 4)
        x = x.to(memory_format=torch.channels_last)
        v = random_codes((2, 3, 2, 2), seed=3).mT
        with using(real):
            assert same(conv_codes(x, v, mul, pad_code=1), conv_loop(x, v, mul, pad_code=1))

    def test_the_inputs_are_not_written_to(self, real, mul):
        a, w = random_codes((3, 9)), random_codes((4, 9), seed=1)
        kept = a.clone(), w.clone()
        with using(real):
            linear_codes(a, w, mul)
        assert torch.equal(a, kept[0])
        assert torch.equal(w, kept[1])

    @pytest.mark.parametrize("dtype", [torch.int16, torch.int32, torch.int64])
    def test_wider_dtypes_hold_the_same_operands(self, real, mul, dtype):
        a, w = random_codes((3, 9)), random_codes((4, 9), seed=1)
        with using(real):
            y = linear_codes(a.to(dtype), w.to(dtype), mul)
        assert same(y, linear_loop(a, w, mul))


CONVS = {
    "1d": ((2, 3, 9), (4, 3, 3), {}),
    "1d-pointwise": ((2, 3, 5), (4, 3, 1), {}),
    "1d-strided": ((1, 2, 11), (3, 2, 4), {"stride": 3, "padding": 2}),
    "2d-pointwise": ((2, 5, 3, 3), (7, 5, 1, 1), {}),
    "2d-pointwise-strided": ((2, 5, 5, 5), (7, 5, 1, 1), {"stride": 2}),
    "2d-padded": ((2, 3, 5, 4), (4, 3, 3, 3), {"padding": 1, "pad_code": -5}),
    "2d-dilated": ((1, 3, 7, 7), (2, 3, 3, 3), {"dilation": 2, "padding": 2, "pad_code": 3}),
    "2d-asymmetric": (
        (1, 2, 5, 6),
        (3, 2, 2, 3),
        {"padding": [(0, 1), (2, 0)], "pad_code": 127},
    ),
    "2d-anisotropic": ((1, 2, 7, 8), (3, 2, 3, 2), {"stride": (1, 3), "dilation": (2, 1)}),
    "2d-groups": ((2, 6, 4, 4), (8, 3, 3, 3), {"groups": 2, "padding": 1}),
    "2d-depthwise": ((1, 5, 5, 5), (5, 1, 3, 3), {"groups": 5, "padding": 1, "pad_code": 1}),
    "2d-depthwise-multiplier": ((1, 3, 5, 5), (9, 1, 3, 3), {"groups": 3, "stride": 2}),
    "2d-depthwise-stride-3": ((1, 3, 9, 8), (3, 1, 3, 3), {"groups": 3, "stride": (3, 2)}),
    "2d-large-kernel": ((1, 2, 9, 9), (2, 1, 9, 9), {"groups": 2}),
    "2d-wide": ((1, 3, 2, 19), (2, 3, 1, 4), {"padding": (0, 3)}),
    "3d": ((1, 2, 4, 3, 5), (3, 2, 2, 3, 2), {"padding": 1, "stride": (1, 2, 1), "pad_code": -9}),
    "3d-groups": ((2, 4, 3, 3, 3), (4, 2, 2, 2, 2), {"groups": 2, "dilation": (1, 1, 2)}),
}


@pytest.mark.parametrize(
    ("real", "mul"), pairs({k: EVERY[k] for k in ("random", "random-int16", "mul8s_1KXF@v2022")})
)
@pytest.mark.parametrize("case", CONVS)
def test_conv_geometries(real, mul, case):
    a_shape, w_shape, how = CONVS[case]
    a, w = random_codes(a_shape, seed=3), random_codes(w_shape, seed=4)
    with using(real):
        assert same(conv_codes(a, w, mul, **how), conv_loop(a, w, mul, **how))


@pytest.mark.parametrize("spec", WIDE)
def test_wide_multipliers(spec):
    mul = dv.multiplier(spec)
    a = random_codes((2, 5), mul.bits[0], mul.signed, seed=1)
    w = random_codes((3, 5), mul.bits[1], mul.signed, seed=2)
    x = random_codes((1, 2, 4), mul.bits[0], mul.signed, seed=3)
    v = random_codes((2, 1, 2), mul.bits[1], mul.signed, seed=4)
    for real in REALISATIONS:
        if holds(real, mul):
            with using(real):
                assert same(linear_codes(a, w, mul), linear_loop(a, w, mul))
                how = {"groups": 2, "padding": 1, "pad_code": 5}
                assert same(conv_codes(x, v, mul, **how), conv_loop(x, v, mul, **how))


def test_unequal_widths():
    rng = np.random.default_rng(0)
    mul = dv.multiplier(rng.integers(-99, 99, (64, 8)))
    assert mul.bits == (6, 3)
    a, w = random_codes((4, 11), 6), random_codes((3, 11), 3, seed=1)
    for real in REALISATIONS:
        if holds(real, mul):
            with using(real):
                assert same(linear_codes(a, w, mul), linear_loop(a, w, mul)), real


@pytest.mark.parametrize("real", REALISATIONS)
def test_exact_is_torch_integer_arithmetic(real):
    if not holds(real, dv.multiplier("exact")):
        return
    a, w = random_codes((4, 33)), random_codes((5, 33), seed=1)
    x, v = random_codes((2, 4, 5, 5), seed=2), random_codes((4, 2, 3, 3), seed=3)
    with using(real):
        assert same(linear_codes(a, w, "exact"), a.long() @ w.long().mT)
        wanted = torch.nn.functional.conv2d(x.double(), v.double(), padding=1, groups=2).long()
        assert same(conv_codes(x, v, "exact", padding=1, groups=2), wanted)


def test_exact_on_wide_operands_gives_int64():
    a = torch.tensor([[2**31, -(2**31)]])
    w = torch.tensor([[2**20, 3]])
    y = linear_codes(a, w, "exact")
    assert y.dtype == torch.int64
    assert y.item() == 2**51 - 3 * 2**31


@pytest.mark.parametrize("real", REALISATIONS)
def test_exact_beyond_float64(real):
    """Sums past 2**53 are still exact: no realisation may round them."""
    a = torch.tensor([[2**30 + 1, 1], [3, -(2**30)]])
    w = torch.tensor([[2**30 - 1, 2], [2**29 + 1, 5], [1, 1]])
    widest = Operands((-(2**30), 2**30 + 1), (0, 2**30 - 1))
    if not _register[real].when(dv.multiplier("exact"), widest):
        return
    with using(real):
        assert same(linear_codes(a, w, "exact"), a @ w.mT)
        how = {"padding": 1, "stride": 2, "groups": 2}
        x, v = a.reshape(1, 2, 1, 2), w.reshape(6, 1, 1, 1)
        assert same(
            conv_codes(x, v, "exact", **how), conv_loop(x, v, dv.multiplier("exact"), **how)
        )


def test_operands_without_zero_among_them():
    """With the width-agnostic `exact`, the operands' own values are their range."""
    a = torch.tensor([[1, 2]], dtype=torch.int32)
    assert linear_codes(a, a, "exact").item() == 5
    assert conv_codes(a[None], a[None], "exact", padding=1, pad_code=-9).tolist() == [
        [[-7, 5, -16]]
    ]


@pytest.mark.parametrize("real", REALISATIONS)
def test_result_dtype_at_the_boundary_of_int32(real):
    """int32 exactly where K * max|f| < 2**31; the sums themselves are right on both sides."""
    peak = 2**20
    mul = dv.multiplier(np.full((256, 256), peak, dtype=np.int32))
    if not holds(real, mul):
        return
    for k, dtype in ((2047, torch.int32), (2048, torch.int64)):
        a, w = torch.ones(1, k, dtype=torch.int8), torch.ones(1, k, dtype=torch.int8)
        with using(real):
            y = linear_codes(a, w, mul)
            z = conv_codes(a[None], w[None], mul)
        assert (y.dtype, z.dtype) == (dtype, dtype)
        assert y.item() == z.item() == k * peak


@pytest.mark.parametrize("real", REALISATIONS)
def test_lowest_product_of_int32(real):
    mul = dv.multiplier(np.full((256, 256), -(2**31), dtype=np.int64))
    assert mul.max_abs == 2**31
    if holds(real, mul):
        with using(real):
            y = linear_codes(random_codes((2, 3)), random_codes((4, 3)), mul)
        assert y.dtype == torch.int64
        assert bool((y == -3 * 2**31).all())


@pytest.mark.parametrize("real", REALISATIONS)
@pytest.mark.parametrize("bits", [8, 12, 16, 24, 32, 48])
def test_accumulators(real, bits):
    a, w, mul = (
        random_codes((3, 65)),
        random_codes((4, 65), seed=1),
        random_table(3, -(2**30), 2**30),
    )
    if not holds(real, mul):
        return
    exact, span = linear_loop(a, w, mul), 1 << bits
    with using(real):
        wrapped = linear_codes(a, w, mul, acc=f"int{bits}")
        clamped = linear_codes(a, w, mul, acc=f"int{bits}(saturate, end)")
    assert same(wrapped, (exact + span // 2) % span - span // 2)
    assert same(clamped, exact.clamp(-span // 2, span // 2 - 1))
    assert wrapped.dtype == clamped.dtype == (torch.int64 if bits > 32 else torch.int32)


def test_accumulator_of_conv():
    a, w = random_codes((1, 2, 6)), random_codes((3, 2, 3), seed=1)
    y = conv_codes(a, w, "exact", padding=1, acc="int12")
    assert same(y, (conv_loop(a, w, dv.multiplier("exact"), padding=1) + 2048) % 4096 - 2048)


@settings(max_examples=40)
@given(data=st.data())
def test_linear_property(data):
    """Any shape, any of the multipliers, any realisation that holds."""
    name = data.draw(st.sampled_from(sorted(EVERY)))
    mul = dv.multiplier(EVERY[name])
    m, n, k = (
        data.draw(st.integers(0, 6)),
        data.draw(st.integers(1, 20)),
        data.draw(st.integers(1, 40)),
    )
    a = random_codes((m, k), signed=mul.signed, seed=data.draw(st.integers(0, 99)), edges=m > 0)
    w = random_codes((n, k), signed=mul.signed, seed=data.draw(st.integers(100, 199)))
    wanted = linear_loop(a, w, mul)
    for real in REALISATIONS:
        if real != "reference" and holds(real, mul):
            with using(real):
                assert same(linear_codes(a, w, mul), wanted), real


@settings(max_examples=30)
@given(data=st.data())
def test_conv_property(data):
    small = st.integers(1, 3)
    n = data.draw(st.integers(1, 2))
    groups, cin, cout = data.draw(small), data.draw(small), data.draw(small)
    kernel = data.draw(st.lists(small, min_size=n, max_size=n))
    dilation = data.draw(st.lists(small, min_size=n, max_size=n))
    stride = data.draw(st.lists(small, min_size=n, max_size=n))
    pads = data.draw(
        st.lists(st.tuples(st.integers(0, 2), st.integers(0, 2)), min_size=n, max_size=n)
    )
    sizes = [
        d * (k - 1) + 1 + data.draw(st.integers(0, 3))
        for d, k in zip(dilation, kernel, strict=True)
    ]
    mul = dv.multiplier(EVERY[data.draw(st.sampled_from(["random", "mul8s_1KXF@v2022", "sparse"]))])
    a = random_codes((data.draw(st.integers(0, 2)), cin * groups, *sizes), seed=1, edges=False)
    w = random_codes((cout * groups, cin, *kernel), seed=2, edges=False)
    how = {
        "stride": stride,
        "padding": pads,
        "dilation": dilation,
        "groups": groups,
        "pad_code": data.draw(st.integers(-128, 127)),
    }
    wanted = conv_loop(a, w, mul, **how)
    for real in REALISATIONS:
        if real != "reference" and holds(real, mul):
            with using(real):
                assert same(conv_codes(a, w, mul, **how), wanted), real
