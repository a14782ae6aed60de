"""``linear_codes`` against plain loops, for every realisation that holds."""

from __future__ import annotations

import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st

import dovetail as dv
from dovetail.kernels import using
from dovetail.ops import conv_codes, linear_codes
from helpers import conv_loop, linear_loop, random_codes
from op_multipliers import EVERY, SOME, held, same


@pytest.mark.parametrize("key", EVERY)
def test_linear_is_the_triple_loop(key):
    mul = dv.multiplier(EVERY[key])
    a = random_codes((3, 17), signed=mul.signed, seed=1)
    w = random_codes((5, 17), signed=mul.signed, seed=2)
    wanted = linear_loop(a, w, mul)
    for real in held(key):
        with using(real):
            assert same(linear_codes(a, w, mul), wanted), real


@pytest.mark.parametrize("key", SOME)
@pytest.mark.parametrize("k", [1, 3, 17, 65, 130])
def test_linear_any_reduction_length(key, k):
    """A tail of K that a kernel fills up must not contribute, also where f(0, 0) != 0."""
    mul = dv.multiplier(EVERY[key])
    for m, n in ((1, 1), (2, 9), (5, 3)):
        a = random_codes((m, k), signed=mul.signed, seed=k)
        w = random_codes((n, k), signed=mul.signed, seed=k + 1)
        wanted = linear_loop(a, w, mul)
        for real in held(key):
            with using(real):
                assert same(linear_codes(a, w, mul), wanted), real


@pytest.mark.parametrize("key", ["random", "full-int32"])
@pytest.mark.parametrize("n", [1, 15, 16, 17, 33, 64, 70])
def test_linear_any_number_of_outputs(key, n):
    a, w, mul = random_codes((2, 7), seed=n), random_codes((n, 7), seed=n + 1), EVERY[key]
    wanted = linear_loop(a, w, mul)
    for real in held(key):
        with using(real):
            assert same(linear_codes(a, w, mul), wanted), real


@pytest.mark.parametrize("real", held("random"))
class TestShapes:
    mul = EVERY["random"]

    def test_leading_dimensions(self, real):
        a, w = random_codes((2, 3, 2, 9)), random_codes((4, 9), seed=1)
        with using(real):
            assert same(linear_codes(a, w, self.mul), linear_loop(a, w, self.mul))
            assert same(linear_codes(a[0, 0, 0], w, self.mul), linear_loop(a[0, 0, 0], w, self.mul))

    def test_empty_batch(self, real):
        with using(real):
            y = linear_codes(torch.empty(0, 9, dtype=torch.int8), random_codes((4, 9)), self.mul)
            z = conv_codes(
                torch.empty(0, 2, 5, dtype=torch.int8), random_codes((4, 2, 3)), self.mul, padding=1
            )
        assert y.shape == (0, 4)
        assert z.shape == (0, 4, 5)

    def test_no_products(self, real):
        """K = 0: sums of nothing are zero, whatever f(0, 0) is."""
        with using(real):
            y = linear_codes(
                torch.empty(3, 0, dtype=torch.int8), torch.empty(2, 0, dtype=torch.int8), self.mul
            )
        assert y.tolist() == [[0, 0]] * 3

    def test_no_outputs(self, real):
        with using(real):
            y = linear_codes(random_codes((3, 4)), torch.empty(0, 4, dtype=torch.int8), self.mul)
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
    def test_not_contiguous(self, real, make):
        a, w = make(random_codes((6, 9))), make(random_codes((4, 9), seed=1))
        with using(real):
            assert same(linear_codes(a, w, self.mul), linear_loop(a, w, self.mul))
        x = make(random_codes((2, 3, 4, 4)).reshape(6, 16)).reshape(2, 3, 4, 4)
        x = x.to(memory_format=torch.channels_last)
        v = random_codes((2, 3, 2, 2), seed=3).mT
        with using(real):
            assert same(
                conv_codes(x, v, self.mul, pad_code=1), conv_loop(x, v, self.mul, pad_code=1)
            )

    def test_the_inputs_are_not_written_to(self, real):
        a, w = random_codes((3, 9)), random_codes((4, 9), seed=1)
        kept = a.clone(), w.clone()
        with using(real):
            linear_codes(a, w, self.mul)
        assert torch.equal(a, kept[0])
        assert torch.equal(w, kept[1])

    @pytest.mark.parametrize("dtype", [torch.int16, torch.int32, torch.int64])
    def test_wider_dtypes_hold_the_same_operands(self, real, dtype):
        a, w = random_codes((3, 9)), random_codes((4, 9), seed=1)
        with using(real):
            y = linear_codes(a.to(dtype), w.to(dtype), self.mul)
        assert same(y, linear_loop(a, w, self.mul))


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
    for real in held(name):
        if real != "reference":
            with using(real):
                assert same(linear_codes(a, w, mul), wanted), real
