"""``linear_codes`` and ``conv_codes`` where operands are wide and sums long, or accumulated."""

from __future__ import annotations

import numpy as np
import pytest
import torch

import dovetail as dv
from dovetail.kernels import using
from dovetail.kernels.realisation import Operands, _register
from dovetail.ops import conv_codes, linear_codes
from helpers import REALISATIONS, conv_loop, holds, linear_loop, random_codes, random_table
from op_multipliers import EVERY, WIDE, held, same


def test_every_multiplier_has_a_realisation_besides_the_reference():
    for key in (*EVERY, *WIDE):
        assert set(held(key)) > {"reference"}, key


@pytest.mark.parametrize("spec", WIDE)
def test_wide_multipliers(spec):
    mul = dv.multiplier(spec)
    a = random_codes((2, 5), mul.bits[0], mul.signed, seed=1)
    w = random_codes((3, 5), mul.bits[1], mul.signed, seed=2)
    x = random_codes((1, 2, 4), mul.bits[0], mul.signed, seed=3)
    v = random_codes((2, 1, 2), mul.bits[1], mul.signed, seed=4)
    how = {"groups": 2, "padding": 1, "pad_code": 5}
    for real in held(spec):
        with using(real):
            assert same(linear_codes(a, w, mul), linear_loop(a, w, mul))
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
