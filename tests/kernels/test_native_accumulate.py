"""Native sums through an accumulator: equal to torch's, and so to the plain loops, everywhere."""

from __future__ import annotations

from functools import cache

import numpy as np
import pytest
import torch
from torch import nn

import dovetail as dv
from dovetail.kernels import native, using
from dovetail.kernels.accumulate import Totals, accumulate
from dovetail.kernels.accumulate_columns import code_products
from dovetail.kernels.accumulate_values import value_totals
from dovetail.kernels.accumulated_mac import AccumulatedMac, code_totals, plan_accumulated
from dovetail.kernels.geometry import LINEAR, Geometry
from dovetail.kernels.native_accumulate import steps_of_codes, steps_of_values
from dovetail.kernels.realisation import Operands
from helpers import build, randn, random_codes, random_table

pytestmark = pytest.mark.skipif(not native.available(), reason="needs the native core")

INTEGER = [
    *("int8(saturate)", "int16(saturate)", "int12(saturate, order=chunk(7))", "int18(saturate)"),
    *("int12(saturate, tree)", "int31(saturate, chunk=5)", "int32(saturate)", "int33(saturate)"),
    *("int63(saturate)", "int64(saturate, tree)", "int14(saturate, chunk=3, order=chunk(2))"),
    *("loa(bits=16, low=6)", "truncated(bits=18, low=3, order=chunk(5))", "loa(bits=32, low=31)"),
    *("eta(bits=20, low=8, order=tree)", "eta(bits=40, low=20)", "truncated(bits=9, low=8)"),
]
FLOATING = [
    *("fp32", "fp16", "bf16", "fp32(tree)", "fp16(tree)", "bf16(order=chunk(4))", "fp16(chunk=1)"),
    *("bf16(chunk=16)", "fp32(chunk=3, order=chunk(2))", "fp16(order=chunk(3), chunk=2)"),
    *("fp8_e4m3", "fp8_e5m2(tree)", "float(e=8, m=12)", "fp16(rounding=ToOdd)", "float(e=9, m=40)"),
    "bf16(rounding=TowardNegative)",
]
COUNTED = ["int12", "int40", "int15(saturate, end)"]
GEOMETRIES = {
    # a, w, arguments of the convolution
    "one row": ((1, 29), (70, 29), None),
    "few outputs": ((67, 21), (3, 21), None),
    "both": ((9, 23), (130, 23), None),
    "1d": ((2, 3, 20), (5, 3, 4), {"padding": 2, "dilation": 2}),
    "groups": ((2, 4, 6, 5), (6, 2, 3, 2), {"groups": 2, "padding": 1, "stride": (1, 2)}),
    "depthwise": ((2, 5, 7, 9), (5, 1, 3, 3), {"groups": 5, "padding": [(1, 0), (2, 1)]}),
    "many channels": ((1, 3, 3, 3), (140, 3, 2, 2), {"stride": 2, "padding": 1}),
    "3d": ((1, 2, 4, 4, 3), (2, 2, 2, 2, 2), {"padding": (1, 0, 1)}),
}
MULTIPLIERS = {
    "exact": "exact",
    "unsigned": "exact",
    "one factor": "drum(k=4, bits=8)",
    "table": random_table(4, -3000, 3000),
    "wide table": random_table(5, -(2**24), 2**24),
}


@pytest.fixture(autouse=True, params=native.levels())
def level(request):
    native.set_isa(request.param)
    yield request.param
    native.set_isa(None)


def geometry_of(name: str) -> tuple[tuple[int, ...], tuple[int, ...], Geometry]:
    a, w, window = GEOMETRIES[name]
    return a, w, LINEAR if window is None else Geometry.conv(len(a) - 2, **window)


@cache
def by_torch(acc: str, kind: str, where: str) -> Totals:
    a, w, mul, operands, geometry = codes_of(kind, where)
    pad = 3 if geometry.spatial else 0
    products = code_products(a, w, mul, operands.bound(mul), geometry, pad)
    found = accumulate(products, dv.accumulator(acc), a.device, counting=True)
    shape = geometry.out_shape(a.shape, w.shape)
    return Totals(found.total.reshape(shape), found.overflows.reshape(shape), found.additions)


def codes_of(kind: str, where: str):
    a, w, geometry = geometry_of(where)
    mul = dv.multiplier(MULTIPLIERS[kind])
    signed = kind != "unsigned"
    low, high = (-128, 127) if signed else (0, 255)
    operands = Operands((low, high), (-128, 127))
    return random_codes(a, signed=signed, seed=1), random_codes(w, seed=2), mul, operands, geometry


def same(found: torch.Tensor, wanted: torch.Tensor) -> bool:
    """Bit for bit, whatever NaN's sign and payload."""
    if found.dtype != wanted.dtype:
        return False
    if not wanted.is_floating_point():
        return torch.equal(found, wanted)
    found, wanted = (torch.where(x.isnan(), torch.nan, x) for x in (found, wanted))
    return torch.equal(found.view(torch.int64), wanted.view(torch.int64))


CASES = [
    *((acc, kind) for acc in INTEGER + COUNTED for kind in MULTIPLIERS),
    *((acc, kind) for acc in FLOATING for kind in ("exact", "wide table")),
]


@pytest.mark.parametrize(("acc", "kind"), CASES)
def test_codes(acc, kind):
    for where in GEOMETRIES:
        a, w, mul, operands, geometry = codes_of(kind, where)
        steps = steps_of_codes(mul, operands, dv.accumulator(acc))
        assert steps is not None
        wanted, pad = by_torch(acc, kind, where), 3 if geometry.spatial else 0
        packed = steps.pack(w, geometry)
        counted = steps.totals(a, packed, pad, counting=True)
        assert same(counted.total, wanted.total), where
        assert torch.equal(counted.overflows, wanted.overflows), where
        assert counted.additions == wanted.additions
        if acc not in COUNTED:
            assert same(steps.totals(a, packed, pad).total, wanted.total), where


def numbers(shape: tuple[int, ...], kind: str, seed: int) -> torch.Tensor:
    x = randn(*shape, seed=seed)
    if kind == "cast":
        return dv.cast(x, "bf16")
    if kind == "far apart":
        x = x * 2.0 ** torch.randint(-60, 60, shape, generator=torch.Generator().manual_seed(seed))
    if kind == "special":
        few = torch.tensor([0.0, -0.0, 1e-45, 3e38, float("inf"), float("nan"), -3e38, 2.0**-126])
        index = torch.randint(0, 40, shape, generator=torch.Generator().manual_seed(seed))
        x = torch.where(index < 8, few[index.clamp(max=7)], x)
    return x


@pytest.mark.parametrize("kind", ["full", "cast", "far apart", "special"])
@pytest.mark.parametrize("acc", FLOATING)
def test_values(acc, kind, level):
    register = dv.accumulator(acc)
    for where in ("one row", "few outputs", "groups", "depthwise", "many channels"):
        a, w, geometry = geometry_of(where)
        x, y = numbers(a, kind, 1), numbers(w, kind, 2)
        weight = y if geometry.spatial else y.mT
        wanted = values_by_torch(acc, kind, where)
        for counting in (False, True):
            found = value_totals(x, weight, geometry, register, counting=counting)
            assert same(found.total, wanted.total), (where, counting)
            if counting:
                assert torch.equal(found.overflows, wanted.overflows), where


@cache
def values_by_torch(acc: str, kind: str, where: str) -> Totals:
    a, w, geometry = geometry_of(where)
    x, y = numbers(a, kind, 1), numbers(w, kind, 2)
    with using("torch-products"):
        weight = y if geometry.spatial else y.mT
        return value_totals(x, weight, geometry, dv.accumulator(acc), counting=True)


def test_threads_and_batch_split_change_no_bit():
    a, w = random_codes((300, 40), seed=1), random_codes((150, 40), seed=2)
    image, kernel = random_codes((6, 8, 9, 9), seed=3), random_codes((6, 4, 3, 3), seed=4)
    before = torch.get_num_threads()
    for acc in ("int16(saturate)", "fp16", "bf16(tree)", "loa(bits=20, low=4)"):
        results = []
        for threads in (1, 2):
            torch.set_num_threads(threads)
            y = dv.ops.conv_codes(image, kernel, "exact", padding=1, groups=2, acc=acc)
            results.append((dv.ops.linear_codes(a, w, MULTIPLIERS["table"], acc), y))
        torch.set_num_threads(before)
        parts = [
            dv.ops.conv_codes(one[None], kernel, "exact", padding=1, groups=2, acc=acc)
            for one in image
        ]
        assert torch.equal(torch.cat(parts), results[0][1])
        assert all(torch.equal(x, y) for x, y in zip(*results, strict=True))


@pytest.mark.parametrize(
    "acc", ["int12(saturate)", "int24(saturate)", "int13", "int14(saturate, end)"]
)
@pytest.mark.parametrize("kind", ["linear", "conv"])
@pytest.mark.parametrize("fmt", ["int8", "uint8"])
def test_layers_in_one_pass_are_the_loops(acc, kind, fmt):
    if kind == "linear":
        model, x = build(1, lambda: nn.Linear(19, 9)), randn(3, 19, seed=2)
    else:
        model = build(1, lambda: nn.Conv2d(4, 4, 3, padding=1, groups=2))
        x = randn(2, 4, 3, 4, seed=2)
    mul = "exact" if fmt == "uint8" else "mul8s_1KV9"
    dv.apply_(model, dv.Recipe(dv.rule("*", input=fmt, weight="int8", mul=mul, acc=acc)), x)
    with using("reference"):
        wanted = model(x)
    assert torch.equal(model(x), wanted)


def test_rows_that_cannot_overflow_take_the_fast_sums(monkeypatch):
    """Some rows are large, some small: each takes its own way, to the same end."""
    a, w = random_codes((200, 300), seed=1), random_codes((8, 300), 6, seed=2)
    a[::2] //= 16
    stepped = []
    original = AccumulatedMac._stepped

    def watch(self, rows, *rest):
        stepped.append(len(rows))
        return original(self, rows, *rest)

    monkeypatch.setattr(AccumulatedMac, "_stepped", watch)
    got = dv.ops.linear_codes(a, w, "exact", "int18(saturate)")
    assert stepped == [100]
    with using("reference"):
        assert torch.equal(dv.ops.linear_codes(a[:20], w, "exact", "int18(saturate)"), got[:20])


def test_weights_that_cannot_overflow_cost_nothing(monkeypatch):
    operands = Operands((-127, 127), (-127, 127))
    kernel = plan_accumulated(
        dv.multiplier("exact"), operands, dv.accumulator("int20(saturate)"), 99
    )
    monkeypatch.setattr(AccumulatedMac, "_stepped", None)
    monkeypatch.setattr(AccumulatedMac, "_fits", None)
    w = random_codes((5, 99), 6, seed=1)
    packed = kernel.pack(w, LINEAR)
    a = random_codes((3, 99), seed=2).clamp(min=-127)
    assert torch.equal(kernel.sums(a, packed, LINEAR, 0), a.long() @ w.long().T)


def test_products_of_batched_matrices_are_counted():
    a, w = random_codes((2, 1, 3, 9), seed=1), random_codes((4, 5, 9), seed=2)
    operands, mul = Operands((-128, 127), (-128, 127)), dv.multiplier("exact")
    acc = dv.accumulator("int16(saturate)")
    found = code_totals(a, w, mul, operands, acc, LINEAR)
    assert found.total.shape == (2, 4, 3, 5)
    products = code_products(a, w, mul, operands.bound(mul), LINEAR, 0)
    wanted = accumulate(products, acc, a.device, counting=True)
    assert torch.equal(found.total, wanted.total)
    assert torch.equal(found.overflows, wanted.overflows)


def test_what_the_core_does_not_do():
    wide = Operands((-2048, 2047), (-128, 127))
    acc = dv.accumulator("int16(saturate)")
    assert steps_of_codes(dv.multiplier("exact"), wide, acc) is None
    adder = dv.accumulator(lambda s, p: s + p, bits=16)
    assert steps_of_codes(dv.multiplier("exact"), Operands((0, 1), (0, 1)), adder) is None
    assert steps_of_values(acc) is None
    float64 = value_totals(
        torch.ones(1, 3).double() / 3, torch.ones(3, 1), LINEAR, dv.accumulator("fp32")
    )
    assert float64.total.item() == float(np.float32(1.0))
