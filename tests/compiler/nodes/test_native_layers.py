"""The ``native`` implementation of emulated layers: the bits of the registered operators."""

from __future__ import annotations

import pytest
import torch

import dovetail as dv
from dovetail.arithmetic import Arithmetic
from dovetail.compiler.nodes import NODES, Call, Operand
from dovetail.kernels import block, native
from dovetail.multipliers import multiplier
from node_graphs import Compared

pytestmark = pytest.mark.skipif(not native.available(), reason="no native core")

WINDOWS = [
    ((2, 4, 9, 8), (6, 4, 3, 3), ([1, 1], [1, 1, 1, 1], [1, 1], 1)),
    ((2, 4, 9, 8), (6, 2, 3, 2), ([2, 1], [0, 1, 2, 0], [1, 2], 2)),
    ((1, 5, 11), (5, 1, 3), ([1], [1, 1], [1], 5)),
    ((1, 2, 5, 6, 4), (3, 2, 2, 3, 1), ([1, 2, 1], [0, 0, 1, 1, 0, 0], [1, 1, 1], 1)),
]


def rule_of(first="int8", second="int8", mul="exact"):
    return Arithmetic(dv.format(first), dv.format(second), mul=multiplier(mul)).spelling


def scale_of(value, zero=0):
    return torch.tensor(value), torch.tensor(zero, dtype=torch.int32)


# Factors, the exact product, classes, and a table of every product.
@pytest.mark.parametrize(
    "mul",
    [
        "mul8s_1L2H@v1.1",
        *(pytest.param(m, marks=pytest.mark.slow) for m in ("exact", "mul8s_1KVA")),
        pytest.param("mitchell(bits=8)", marks=pytest.mark.slow),
    ],
)
def test_layers_keep_every_bit(mul):
    torch.manual_seed(0)
    both = Compared("native")
    key, rule = "dovetail.linear.default", rule_of(mul=mul)
    for rows, depth, outputs in ((5, 70, 9), (1, 64, 3), (33, 7, 40)):
        x, w = torch.randn(rows, depth), torch.randn(outputs, depth)
        both.call(key, x, w, torch.randn(outputs), *scale_of(0.02), None, None, rule)
        both.call(key, x, w, None, None, None, None, None, rule)
    w = torch.randn(8, 16)
    both.call(key, torch.randn(3, 4, 16) * 9, w, None, *scale_of(0.02), *scale_of(0.01), rule)
    for x, w, window in WINDOWS:
        args = (torch.randn(x), torch.randn(w), torch.randn(w[0]), *scale_of(0.02), None, None)
        both.call("dovetail.conv.default", *args, *window, rule)
    both.check_bits()


def test_zero_points_per_tensor_scales_and_odd_values():
    torch.manual_seed(0)
    both = Compared("native")
    key, w = "dovetail.linear.default", torch.randn(4, 20)
    x = torch.randn(6, 20)
    x[0, :4] = torch.tensor([torch.nan, torch.inf, -torch.inf, 1e30])
    w[0] = 0
    affine = rule_of("int8(affine)", "int8(per_tensor)")
    both.call(key, x, w, None, *scale_of(0.03, -17), None, None, affine)
    both.call(key, x, w, None, None, None, None, None, affine)
    both.call(key, x, w, torch.randn(4), *scale_of(0.03), None, None, rule_of("int4", "int6(po2)"))
    both.call(key, x, w, None, *scale_of(0.02, 3), None, None, rule_of("uint8", "int8"))
    x, w, window = WINDOWS[1]
    args = (torch.randn(x), torch.randn(w), None, *scale_of(0.03, 5), None, None)
    both.call("dovetail.conv.default", *args, *window, affine)
    both.call(key, torch.empty(0, 8), torch.ones(3, 8), None, *scale_of(0.1), None, None, rule_of())
    both.check_bits()


def test_a_frozen_weight_is_packed_once():
    both = Compared("native")
    w, x = torch.randn(5, 8), torch.randn(2, 8)
    args = (x, w, None, *scale_of(0.02), None, None, rule_of())
    both.call("dovetail.linear.default", *args)
    first = [both.graph.results[-1][0]]
    rest = {"arithmetic": rule_of(), "frozen": True}
    both.graph.add("dovetail.linear.default", args[:-1], first, **rest)
    with both.graph.built() as run:
        run()
        kept = both.graph.results[1][0].clone()
        w.mul_(-2)
        run()
    changed, frozen = (both.graph.results[i][0] for i in (0, 1))
    assert frozen.equal(kept)
    assert changed.equal(torch.ops.dovetail.linear(*args))
    assert not changed.equal(kept)


def test_what_one_pass_cannot_compute_is_named():
    def call(rule, **changes):
        x = Operand("x", (2, 8), (8, 1), 0, torch.float32)
        w = Operand("w", (3, 8), (8, 1), 0, torch.float32)
        y = Operand("y", (2, 3), (3, 1), 0, torch.float32)
        inputs = (x, w, None, None, None, None, None)
        return Call("dovetail.linear.default", inputs, (y,), {"arithmetic": rule} | changes)

    spec = NODES["dovetail.linear.default"]
    narrow = Arithmetic(dv.format("int8"), dv.format("int8"), acc=dv.accumulator("int16(saturate)"))
    refused = {
        narrow.spelling: "'native-accumulated' does not compute a layer in one pass",
        rule_of("int8(rounding=TowardZero)"): "one pass rounds codes to nearest",
        rule_of("int12", "int12"): "does not compute a layer in one pass",
    }
    for rule, why in refused.items():
        assert why in spec.refusal(call(rule), "native")
        assert spec.choose(call(rule)) == "native-op"
    assert spec.choose(call(rule_of())) == "native"


def test_a_weight_is_packed_again_when_one_number_of_it_changes(monkeypatch):
    made = []
    cached = block.cached
    monkeypatch.setattr(
        block, "cached", lambda w, key, make: cached(w, key, lambda: made.append(1) or make())
    )
    both = Compared()
    w, x = torch.randn(5, 64), torch.randn(2, 64)
    args = (x, w, None, *scale_of(0.02), None, None, rule_of())
    both.call("dovetail.linear.default", *args)
    blocks = Arithmetic(dv.format("nvfp4"), dv.format("nvfp4")).spelling  # called as torch calls it
    both.call("dovetail.block_linear.default", x, w, None, blocks)
    packed = []
    with both.graph.built() as run:
        for value in (None, None, 1.5, -40.0):
            if value is not None:
                w[3, 7] = value
            before = len(made)
            run()
            packed.append(len(made) - before)
            assert both.graph.results[0][0].equal(torch.ops.dovetail.linear(*args))
            expected = torch.ops.dovetail.block_linear(x, w.clone(), None, blocks)
            assert both.graph.results[1][0].equal(expected)
    assert packed == [1, 0, 1, 1]


BLOCKS = [("mxfp8_e4m3", "mxfp8_e4m3"), ("mxfp8_e5m2", "mxfp8_e5m2"), ("mxint8", "mxfp4")]
BLOCKS += [("bfp(m=8, block=64)", "mxfp6_e3m2"), ("mxint8(block=16)", "mxint8")]


def test_layers_of_blocks_keep_every_bit():
    torch.manual_seed(0)
    both = Compared("native")
    for first, second in BLOCKS:
        rule, frozen = rule_of(first, second), {"frozen": True}
        for rows, depth, outputs in ((5, 70, 9), (1, 64, 3), (33, 7, 40)):
            x, w = torch.randn(rows, depth) * 9, torch.randn(outputs, depth)
            x[0, :4] = torch.tensor([0.0, 1e-40, -0.0, 1e30])
            both.call("dovetail.block_linear.default", x, w, torch.randn(outputs), rule)
        x, w = x.clone(), w.clone()
        x[1, 2], x[2, 3], w[1] = float("nan"), float("-inf"), 0
        both.call("dovetail.block_linear.default", x, w, None, rule)
        three = torch.randn(3, 4, 7)
        expected = torch.ops.dovetail.block_linear(three, w, None, rule)
        both.calls.append("frozen")
        both.expected.append([expected])
        key = "dovetail.block_linear.default"
        both.graph.add(key, [three, w, None], [expected], "native", arithmetic=rule, **frozen)
    for x, w, window in WINDOWS:
        args = (torch.randn(x), torch.randn(w), torch.randn(w[0]))
        both.call("dovetail.block_conv.default", *args, *window, rule_of("mxfp8_e4m3", "mxint8"))
    both.check_bits()


def test_layers_of_blocks_that_one_pass_cannot_compute_are_named():
    x = Operand("x", (2, 8), (8, 1), 0, torch.float32)
    y = Operand("y", (2, 2), (2, 1), 0, torch.float32)
    spec = NODES["dovetail.block_linear.default"]
    mx = dv.format("mxint8")
    summed = Arithmetic(mx, mx, acc=dv.accumulator("fp16(each)"))
    for rule, why in (
        (summed.spelling, "one pass sums in float32"),
        (rule_of("nvfp4", "nvfp4"), "one pass does not round to both"),
        (rule_of("mxint8(rounding=ToOdd)", "mxint8"), "one pass does not round to both"),
    ):
        call = Call(spec.key, (x, x, None), (y,), {"arithmetic": rule})
        assert why in spec.refusal(call, "native")
        assert spec.choose(call) == "native-op"
