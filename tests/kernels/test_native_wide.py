"""Wide operands in the native core: equal to the definitions, bit for bit, at every level."""

from __future__ import annotations

import itertools

import numpy as np
import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st
from torch import nn

import dovetail as dv
from dovetail.errors import DovetailError
from dovetail.kernels import native, using
from dovetail.kernels.planner import plan_mac
from dovetail.kernels.realisation import Operands
from dovetail.kernels.wide_words import words_of
from helpers import build, conv_loop, randn, random_codes

pytestmark = pytest.mark.skipif(not native.available(), reason="the native core is not built")

LAWS = [
    "mitchell",
    "mbm",
    *(f"alm(adder={adder!r}, m={m})" for adder in ("loa", "soa") for m in (0, 1, 3)),
    "etm",
    "etm(split=2)",
]
FACTORED = [
    *("exact", "drum", "ssm", "dsm", "roba", "kulkarni", "iterative_log", "broken_array"),
    *("truncated", "truncated(compensation='variable')", "truncate(drop_first=2)"),
]
WIDTHS = [12, 16, (16, 8), (8, 16), (12, 4), (3, 15)]
#: Products beyond 32 bits (of floats rounded up from 65535 * 65535): not for the core.
BEYOND = {"mbm", *(f"alm(adder={adder!r}, m={m})" for adder in ("loa", "soa") for m in (1, 3))}


def code_range(bits: int, signed: bool) -> tuple[int, int]:
    return (-(1 << bits - 1), (1 << bits - 1) - 1) if signed else (0, (1 << bits) - 1)


def each_level():
    """Every level of this machine, with one thread and with two."""
    threads = torch.get_num_threads()
    try:
        for level, count in itertools.product(native.levels(), (1, 2)):
            native.set_isa(level)
            torch.set_num_threads(count)
            yield f"{level}, {count} threads"
    finally:
        native.set_isa(None)
        torch.set_num_threads(threads)


def operands(m: dv.Multiplier, rows: int, depth: int, seed: int = 0):
    """Random values with whole rows of extremes and zeros among them."""
    rng = np.random.default_rng(seed)
    sides = []
    for bits in m.bits:
        low, high = code_range(bits, m.signed)
        side = rng.integers(low, high + 1, (rows, depth))
        small = rng.integers(max(low, -3), min(high, 3) + 1, (rows, depth))
        side = np.where(rng.random((rows, depth)) < 0.2, small, side)
        side[:4] = np.array([low, high, 0, low + 1])[:, None]
        sides.append(side)
    return sides


def wanted_sums(m: dv.Multiplier, a, w) -> torch.Tensor:
    return torch.from_numpy(np.stack([m(row[None], w).sum(1) for row in a]))


@pytest.mark.parametrize("signed", [True, False])
@pytest.mark.parametrize("name", LAWS + FACTORED)
def test_all_pairs_at_8_bits(name, signed):
    m = dv.multiplier(name, bits=8, signed=signed)
    low, high = code_range(8, signed)
    values = torch.arange(low, high + 1, dtype=torch.int32)
    wanted = torch.from_numpy(m(values[:, None].numpy(), values[None].numpy()))
    for where in each_level():
        with using("native-wide"):
            got = dv.ops.linear_codes(values[:, None], values[:, None], m)
        assert torch.equal(got.long(), wanted), where


@pytest.mark.parametrize("bits", WIDTHS)
@pytest.mark.parametrize("signed", [True, False])
@pytest.mark.parametrize("name", LAWS + FACTORED)
def test_random_and_edge_pairs_at_other_widths(name, bits, signed):
    if (bits, signed) == (16, False) and name in BEYOND:
        pytest.skip("products beyond 32 bits")
    m = dv.multiplier(name, bits=bits, signed=signed)
    a, w = operands(m, 19, 67)
    wanted = wanted_sums(m, a, w)
    for where in each_level():
        with using("native-wide"):
            got = dv.ops.linear_codes(torch.from_numpy(a), torch.from_numpy(w), m)
        assert torch.equal(got.long(), wanted), where


@pytest.mark.parametrize(
    "m",
    [
        dv.multiplier("mitchell", bits=16),
        dv.multiplier("mitchell", bits=12),
        dv.multiplier("exact", bits=16),
        dv.multiplier("exact", bits=16, signed=False),
        dv.multiplier("alm", m=0, bits=16, signed=False),
    ],
    ids=repr,
)
def test_sums_longer_than_32_bits_hold_are_exact(m):
    """Runs of extremes, much longer than what is summed before it goes to 64 bits."""
    depth = 70_001
    ends = [code_range(bits, m.signed) for bits in m.bits]
    a = torch.tensor([[low] * depth for low in ends[0]])
    w = torch.tensor([[low] * depth for low in (*ends[1], 1)])
    products = m(a[:, None, 0].numpy(), w[None, :, 0].numpy())
    for where in each_level():
        with using("native-wide"):
            got = dv.ops.linear_codes(a, w, m)
        assert got.dtype == torch.int64
        assert torch.equal(got, torch.from_numpy(products) * depth), where


# channels, outputs, input size, kernel, and the rest as conv_codes takes it
CONVS = [
    (3, 5, (9,), (3,), {"padding": 1, "stride": 2}),
    (4, 6, (7, 8), (3, 2), {"padding": ((1, 2), (0, 1)), "groups": 2}),
    (5, 5, (6, 9), (3, 3), {"padding": 2, "dilation": 2, "groups": 5}),
    (2, 13, (5, 6), (1, 1), {}),
    (4, 8, (8, 7), (3, 3), {"stride": (2, 3), "padding": 1, "groups": 4}),
    (2, 3, (4, 5, 4), (2, 3, 2), {"padding": 1, "stride": (1, 2, 2)}),
]


@pytest.mark.parametrize("conv", CONVS, ids=str)
@pytest.mark.parametrize("name", ["mitchell", "broken_array", "alm(adder='loa')", "etm", "drum"])
def test_convolutions_of_every_kind(name, conv):
    channels, outputs, size, kernel, given = conv
    m = dv.multiplier(name, bits=(12, 16))
    a = random_codes((2, channels, *size), 12)
    w = random_codes((outputs, channels // given.get("groups", 1), *kernel), 16, seed=1)
    wanted = conv_loop(a, w, m, pad_code=-77, **given)
    for where in each_level():
        with using("native-wide"):
            got = dv.ops.conv_codes(a, w, m, pad_code=-77, **given)
        assert torch.equal(got.long(), wanted), where


@settings(max_examples=40)
@given(st.data())
def test_any_shape(data):
    """Shapes around the sizes of tiles, panels and units."""
    name = data.draw(st.sampled_from(["mitchell", "mbm", "exact", "broken_array", "roba"]))
    rows, outputs, depth = (data.draw(st.integers(0, most)) for most in (30, 70, 40))
    level = data.draw(st.sampled_from(native.levels()))
    m = dv.multiplier(name, bits=data.draw(st.sampled_from([9, 12, 16])))
    a = random_codes((rows, depth), m.bits[0], edges=False)
    w = random_codes((outputs, depth), m.bits[1], seed=1, edges=False)
    if rows:
        wanted = wanted_sums(m, a.numpy(), w.numpy()).reshape(rows, outputs)
    else:
        wanted = torch.zeros(rows, outputs, dtype=torch.int64)
    try:
        native.set_isa(level)
        with using("native-wide"):
            assert torch.equal(dv.ops.linear_codes(a, w, m).long(), wanted)
            strided = dv.ops.linear_codes(a.mT.contiguous().mT, w.repeat(2, 1)[::2][:outputs], m)
    finally:
        native.set_isa(None)
    again = w.repeat(2, 1)[::2][:outputs]
    if rows:
        assert torch.equal(strided.long(), wanted_sums(m, a.numpy(), again.numpy()))


def layers():
    return {
        "linear": (build(0, lambda: nn.Linear(19, 7)), randn(5, 19)),
        "conv": (build(0, lambda: nn.Conv2d(4, 6, 3, padding=1, groups=2)), randn(2, 4, 6, 7)),
        "depthwise": (build(0, lambda: nn.Conv1d(5, 5, 3, groups=5)), randn(2, 5, 9)),
        "transposed": (build(0, lambda: nn.ConvTranspose2d(3, 4, 3, stride=2)), randn(2, 3, 5, 4)),
    }


@pytest.mark.parametrize("mul", ["mitchell(bits=16)", "drum(bits=16)", "exact"])
@pytest.mark.parametrize("fmt", ["int16", "int16(affine)"])
@pytest.mark.parametrize("kind", layers())
def test_layers_are_those_of_the_portable_kernels(kind, fmt, mul):
    layer, x = layers()[kind]
    model = nn.Sequential(layer)
    dv.apply_(model, dv.Recipe(dv.rule("*", input=fmt, weight="int16", mul=mul)), x)
    with torch.no_grad():
        with using("torch-products"):
            wanted = model(x)
        for where in each_level():
            with using("native-wide"):
                assert torch.equal(model(x), wanted), where


def test_matmul_of_two_activations():
    class Product(nn.Module):
        def forward(self, a, b):
            return a @ b

    model, a, b = Product(), randn(2, 3, 5, 8), randn(2, 3, 8, 4, seed=1)
    rule = dv.rule("*", input="int12", weight="int16", mul="mitchell(bits=(12, 16))")
    dv.apply_(model, dv.Recipe(rule), (a, b))
    with using("torch-products"):
        wanted = model(a, b)
    for where in each_level():
        with using("native-wide"):
            assert torch.equal(model(a, b), wanted), where


def test_the_planner_takes_it_for_wide_operands():
    for mul, bits in (("mitchell(bits=16)", 16), ("drum(bits=12)", 12), ("exact", 16)):
        most = (1 << bits - 1) - 1
        kernel = plan_mac(dv.multiplier(mul), Operands((-most, most), (-most, most)))
        assert kernel.name == "native-wide"


def test_what_it_does_not_hold_for():
    wide = Operands((-(2**20), 2**20), (-127, 127))
    assert words_of(dv.multiplier("exact"), wide) is None
    own = dv.multiplier(lambda a, w: a * w + (a & w & 1), bits=(12, 6))
    for m in (own, dv.multiplier("mbm", bits=16, signed=False)):
        a = torch.ones(2, 3, dtype=torch.int32)
        assert dv.ops.linear_codes(a, a, m).tolist() == [[3 * int(m(1, 1))] * 2] * 2
        with using("native-wide"), pytest.raises(DovetailError, match="native-wide"):
            dv.ops.linear_codes(a, a, m)


def test_wide_factors_are_split_and_off_centre_ones_moved():
    full = Operands((-32768, 32767), (-32768, 32767))
    unsigned = Operands((0, 65535), (0, 65535))
    assert words_of(dv.multiplier("exact"), unsigned).constant is not None
    assert words_of(dv.multiplier("exact"), full).constant is None
    # DRUM rounds -32768 beyond 16 bits: two digits of either operand.
    assert len(words_of(dv.multiplier("drum", bits=16), full).segments) == 4
    # What an array leaves out is cheaper than what it keeps.
    broken = dv.multiplier("broken_array", bits=16, drop_columns=10)
    assert len(words_of(broken, full).segments) == 10 + 2
