"""The ``native`` implementation of casts: the bits of ``dv.cast``, from generated code."""

from __future__ import annotations

import pytest
import torch

import dovetail as dv
from dovetail.compiler.nodes import NODES, Operand
from dovetail.kernels import native
from node_graphs import Compared

pytestmark = pytest.mark.skipif(not native.available(), reason="no native core")

ELEMENTS = ["fp8_e4m3", "fp8_e5m2", "bf16", "fp16(rounding=TowardZero)", "fixed(8,4)", "e8m0fnu"]
BOOKS = ["posit(8,1)", "nf4", "log(4,3)"]
BLOCKS = ["mxfp4", "mxfp8_e4m3", "mxint8", "bfp(m=8, block=5)", "nvfp4"]


def values(*shape):
    torch.manual_seed(1)
    x = torch.randn(*shape) * torch.logspace(-8, 6, shape[-1])
    edges = [torch.nan, torch.inf, -torch.inf, -0.0, 1e-45, -3.4e38, 448.0, 464.0]
    x.view(-1)[: len(edges)] = torch.tensor(edges)
    return x


def test_casts_to_number_formats_keep_every_bit():
    both = Compared("native")
    x, turned = values(4, 6, 37), values(6, 37, 4).permute(2, 0, 1)
    for fmt in (*ELEMENTS, *BOOKS, *BLOCKS):
        for given, axis in ((x, -1), (x, 1), (turned, 2)):
            both.call("dovetail.cast.default", given, fmt, axis, None, None)
    both.call("dovetail.cast.default", x.double(), "fp16", -1, None, None)
    both.call("dovetail.cast.default", torch.empty(0, 3), "mxfp4", -1, None, None)
    seed, scale = torch.tensor(7), torch.tensor(0.25)
    drawn = "fp8_e4m3(rounding=Stochastic)"
    both.call("dovetail.cast.default", x, drawn, -1, seed, None)
    both.call("dovetail.cast.default", x, "nvfp4", -1, None, scale)
    for fmt in ("fp8_e4m3", "mxfp4", "nvfp4"):
        for clip in (True, False):
            key = "dovetail.cast_masked.default"
            both.call(key, x, fmt, -1, None, None, clip)
    both.check_bits()


def test_casts_to_integers_keep_every_bit():
    both = Compared("native")
    x, finite = values(4, 6, 37), torch.randn(8, 5, 9) * 1e-3
    for given in (x, finite, finite * 0, finite.abs(), x * 1e30):
        for fmt in ("int8", "int4(affine)", "uint8", "int8(po2)"):
            for channel in (None, 0, 1):
                key = "dovetail.cast_by_range.default"
                both.call(key, given, fmt, None, channel, None)
    key = "dovetail.cast_by_range_masked.default"
    both.call(key, x, "int4(group=8)", 2, None, None, True)
    key = "dovetail.cast_integers"
    for rounding in ("", "(rounding=TowardZero)"):
        scale, zero = torch.rand(6) + 0.1, torch.arange(6, dtype=torch.int32)
        args = (x, f"int8{rounding}", scale, zero, 1, None)
        both.call(f"{key}.default", *args)
        args = (x, f"int4{rounding}", scale[0].clone(), zero[0].clone(), None, None, True)
        both.call(f"{key}_masked.default", *args)
    both.check_bits()


def test_what_the_core_cannot_do_goes_through_the_operator_and_says_why():
    x = Operand("x", (4, 6), (1, 8), 0, torch.float32)
    y = Operand("y", (4, 6), (6, 1), 0, torch.float32)
    spec = NODES["dovetail.cast.default"]
    from dovetail.compiler.nodes import Call

    call = Call(spec.key, (x, None, None), (y,), {"format": "mxfp4", "axis": -1})
    assert spec.choose(call) == "native-op"
    with pytest.raises(dv.DovetailError, match="native: the result of a native cast lies"):
        spec.choose(call, "native")
    with pytest.raises(dv.DovetailError, match="has no implementation 'fast'"):
        spec.choose(call, "fast")
