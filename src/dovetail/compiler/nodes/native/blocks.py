"""C++ for layers of block formats in one pass of the native core: ``block_linear``, ``block_conv``.

A weight is rounded and packed when it has changed, which a digest of it tells, or once where the
call says that it is ``frozen``.
"""

from __future__ import annotations

from typing import Any

import torch

from dovetail.accumulators import accumulator
from dovetail.arithmetic import Arithmetic
from dovetail.compiler.nodes.base import Call, Operand
from dovetail.compiler.nodes.native.casts import product, start
from dovetail.compiler.nodes.native.layers import geometry_of, shape_code
from dovetail.compiler.nodes.native.structs import value
from dovetail.formats import NVFP4
from dovetail.kernels import native, native_block
from dovetail.kernels.block import FEW_ROWS, fitting
from dovetail.kernels.block_pairs import Pair
from dovetail.kernels.native_shape import packing_shape

__all__ = ["block_code", "block_refusal"]

_FP32 = accumulator("fp32")


def block_refusal(call: Call) -> str | None:
    """Why the core cannot compute this layer in one pass; None where it can."""
    rule = Arithmetic.parse(call.attributes["arithmetic"])
    x, weight, bias = call.inputs
    assert x is not None
    assert weight is not None
    present = [o for o in (x, weight, bias, *call.outputs) if o is not None]
    if not native.available():
        return "the native core is not built"
    if not all(o.contiguous for o in present):
        return "the core reads and writes whole rows"
    if any(o.dtype != torch.float32 for o in present):
        return "the core computes layers of float32 in one pass"
    if not all(isinstance(n, int) for n in (*weight.shape, *x.shape[1:])) or 0 in weight.shape:
        return "only the batch may be unknown"
    if rule.acc not in (None, _FP32):
        return f"acc={rule.acc}: one pass sums in float32"
    pair = fitting(rule.input, rule.weight)
    if any(isinstance(f, NVFP4) or not native_block.rounds(f) for f in (pair.first, pair.second)):
        return f"input={rule.input}, weight={rule.weight}: one pass does not round to both"
    return None


def block_code(call: Call) -> str:
    """The tasklet's body of one of those layers."""
    x, weight, bias = call.inputs
    assert x is not None
    assert weight is not None
    geometry = geometry_of(call)
    rule = Arithmetic.parse(call.attributes["arithmetic"])
    pair = fitting(rule.input, rule.weight)
    few = geometry.spatial == 0 and _rows(x) <= FEW_ROWS
    size = "0" if call.attributes.get("frozen", False) else f"4 * ({product(weight.shape)})"
    lines = [
        *shape_code(x, weight, geometry),
        f"const auto rule = {value(native_block.format_of(pair.first, pair.split))};",
        "static dovetail_kept::Kept<std::vector<uint8_t>> kept;",
        f"const auto packed = kept.once(__state, {start(weight)}, size_t({size}), [&] {{",
        f"return {_packed(weight, pair, value(packing_shape(_sizes(weight), geometry)), few)};",
        "});",
        "dovetail_core::check(dovetail_core::dv_block_run(&shape, &rule, packed->data(), "
        f"{start(x)}, {start(bias)}, 1.0f, {start(call.outputs[0])}), "
        f'"{pair.first} times {pair.second}");',
    ]
    return "\n".join([f"if ({product(x.shape)} > 0) {{", *lines, "}"])


def _sizes(weight: Operand) -> tuple[int, ...]:
    return tuple(int(n) for n in weight.shape)


def _rows(x: Operand) -> Any:
    """How many rows there are; of an unknown number, more than few."""
    count = 1
    for size in x.shape[:-1]:
        if not isinstance(size, int):
            return FEW_ROWS + 1
        count *= size
    return count


def _packed(weight: Operand, pair: Pair, shape: str, few: bool) -> str:
    outputs, channels, *taps = weight.shape
    codes = value(native_block.codes_of(pair, few))
    rule = value(native_block.format_of(pair.second))
    sizes = f"{outputs}, {channels}, {product(taps)}"
    return f"dovetail_core::pack_blocks({shape}, {codes}, {rule}, {start(weight)}, {sizes})"
