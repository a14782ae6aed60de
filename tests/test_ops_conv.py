"""``conv_codes`` against plain loops, for every realisation that holds."""

from __future__ import annotations

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

import dovetail as dv
from dovetail.kernels import using
from dovetail.ops import conv_codes
from helpers import conv_loop, random_codes
from op_multipliers import EVERY, held, same


@pytest.mark.parametrize("key", EVERY)
def test_conv_is_the_loop(key):
    """Stride, dilation, asymmetric padding with a code that is not zero, two groups."""
    mul = dv.multiplier(EVERY[key])
    a = random_codes((1, 4, 5, 4), signed=mul.signed, seed=1)
    w = random_codes((4, 2, 2, 3), signed=mul.signed, seed=2)
    how = {
        "stride": (2, 1),
        "padding": [(1, 0), (2, 1)],
        "dilation": (1, 2),
        "groups": 2,
        "pad_code": 7,
    }
    wanted = conv_loop(a, w, mul, **how)
    for real in held(key):
        with using(real):
            assert same(conv_codes(a, w, mul, **how), wanted), real


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


@pytest.mark.parametrize("key", ["random", "random-int16", "mul8s_1KXF@v2022"])
@pytest.mark.parametrize("case", CONVS)
def test_conv_geometries(key, case):
    mul = dv.multiplier(EVERY[key])
    a_shape, w_shape, how = CONVS[case]
    a, w = random_codes(a_shape, seed=3), random_codes(w_shape, seed=4)
    wanted = conv_loop(a, w, mul, **how)
    for real in held(key):
        with using(real):
            assert same(conv_codes(a, w, mul, **how), wanted), real


def test_accumulator_of_conv():
    a, w = random_codes((1, 2, 6)), random_codes((3, 2, 3), seed=1)
    y = conv_codes(a, w, "exact", padding=1, acc="int12")
    assert same(y, (conv_loop(a, w, dv.multiplier("exact"), padding=1) + 2048) % 4096 - 2048)


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
    key = data.draw(st.sampled_from(["random", "mul8s_1KXF@v2022", "sparse"]))
    mul = dv.multiplier(EVERY[key])
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
    for real in held(key):
        if real != "reference":
            with using(real):
                assert same(conv_codes(a, w, mul, **how), wanted), real
