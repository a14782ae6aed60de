"""The ``pure`` implementation of casts and emulated layers: the bits of the operators."""

from __future__ import annotations

import torch

import dovetail as dv
from dovetail.arithmetic import Arithmetic
from dovetail.compiler.nodes import NODES, Call, Operand
from dovetail.multipliers import multiplier
from node_graphs import Compared

FORMATS = ["fp8_e4m3", "fp8_e4m3fnuz", "bf16", "fp16(rounding=TowardZero)", "fixed(8,4)"]
FORMATS += ["fixed(8,4,symmetric=True)", "fp8_e5m2(rounding=TowardPositive)"]
FORMATS += ["fp8_e4m3(rounding=ToOdd)", "fixed(6,2,rounding=NearestTiesToAway)"]
BLOCKS = {"mxfp4": -1, "mxfp8_e5m2": 1, "mxint8": 2, "bfp(m=8, block=5)": -1}


def values(*shape):
    torch.manual_seed(1)
    x = torch.randn(*shape) * torch.logspace(-8, 6, shape[-1])
    edges = [torch.nan, torch.inf, -torch.inf, -0.0, 1e-45, -3.4e38, 448.0, 464.0, 0.5, -2.5]
    x.view(-1)[: len(edges)] = torch.tensor(edges)
    return x


def test_casts_written_out_keep_every_bit():
    both = Compared("pure")
    x = values(3, 4, 35)
    for fmt in FORMATS:
        both.call("dovetail.cast.default", x.transpose(0, 2), fmt, -1, None, None)
    for fmt, axis in BLOCKS.items():
        both.call("dovetail.cast.default", x, fmt, axis, None, None)
    scale, zero = torch.rand(4) + 0.1, torch.arange(4, dtype=torch.int32)
    both.call("dovetail.cast_integers.default", x, "int8", scale, zero, 1, None)
    one = (scale[2].clone(), zero[2].clone())
    both.call("dovetail.cast_integers.default", x, "int4(rounding=ToOdd)", *one, None, None)
    cases = [(x, "int8", None), (torch.zeros(2, 3), "uint8", 1)]
    for given, fmt, channel in [*cases, (torch.randn(4, 5), "int4(affine)", 0)]:
        both.call("dovetail.cast_by_range.default", given, fmt, None, channel, None)
    for clip in (True, False):
        for fmt in ("fp8_e4m3", "fixed(8,4)", "mxfp4", "bfp(m=8, block=5)"):
            both.call("dovetail.cast_masked.default", x, fmt, -1, None, None, clip)
        both.call("dovetail.cast_integers_masked.default", x, "int8", scale, zero, 1, None, clip)
        both.call("dovetail.cast_by_range_masked.default", x, "int4", None, 0, None, clip)
    both.check_bits()


def rule_of(first="int8", second="int8", mul="exact", acc=None):
    acc = None if acc is None else dv.accumulator(acc)
    formats = dv.format(first), dv.format(second)
    return Arithmetic(*formats, mul=multiplier(mul), acc=acc).spelling


def test_layers_written_out_keep_every_bit():
    torch.manual_seed(0)
    both = Compared("pure")
    x, w, b = torch.randn(2, 3, 40), torch.randn(5, 40), torch.randn(5)
    scale = torch.tensor(0.02), torch.tensor(-3, dtype=torch.int32)
    key = "dovetail.linear.default"
    both.call(key, x, w, b, None, None, None, None, rule_of(mul="mul8s_1KVA"))
    both.call(key, x, w, None, *scale, None, None, rule_of("int8(affine)", "int6(per_tensor)"))
    for acc in ("int12", "int12(saturate)", "int12(saturate, end)"):
        both.call(key, x, w, b, None, None, None, None, rule_of(acc=acc))
    image, kernel = torch.randn(2, 4, 6, 5), torch.randn(6, 2, 3, 2)
    window = ([2, 1], [0, 1, 2, 0], [1, 2], 2)
    args = (image, kernel, None, *scale, None, None, *window)
    both.call("dovetail.conv.default", *args, rule_of("int8(affine)", mul="mul8s_1KVA"))
    both.check_bits()


def test_what_is_not_written_out_is_named():
    def refused(key, inputs, **attributes):
        operands = tuple(
            i and Operand(f"x{n}", i[0], i[1], 0, torch.float32) for n, i in enumerate(inputs)
        )
        return NODES[key].refusal(Call(key, operands, operands[:1], attributes), "pure")

    x = ((4, 6), (6, 1))
    for fmt in ("posit(8,1)", "nvfp4", "e8m0fnu", "fp8_e4m3(rounding=Stochastic)", "nf4"):
        assert f"'{dv.format(fmt)}'" in refused("dovetail.cast.default", [x], format=fmt, axis=-1)
    rules = {"mxfp4": "integer codes", "int8(po2)": "int8(po2)"}
    for fmt, why in rules.items():
        rule = rule_of(fmt, fmt)
        assert why in refused("dovetail.linear.default", [x, x], arithmetic=rule)
    why = refused("dovetail.linear.default", [x, x], arithmetic=rule_of(acc="fp32"))
    assert why == "acc=fp32 is not written out"
