"""Emulated layers written out: codes, products by table, sums in the accumulator, the scale."""

from __future__ import annotations

import hashlib
from typing import Any

import numpy as np

from dovetail.accumulators import IntAccumulator
from dovetail.arithmetic import Arithmetic
from dovetail.compiler.engine import load_dace
from dovetail.compiler.nodes.native.layers import geometry_of
from dovetail.compiler.nodes.operator import declare
from dovetail.compiler.nodes.pure.body import Body, Tensor
from dovetail.compiler.nodes.pure.casts import codes, own_scale
from dovetail.compiler.nodes.pure.convolution import placed
from dovetail.formats import IntFormat
from dovetail.kernels.geometry import Geometry

__all__ = ["layer"]

dace = load_dace()


def layer(body: Body) -> None:
    """``dovetail::linear`` and ``dovetail::conv`` of integer formats."""
    rule, geometry = Arithmetic.parse(body.call.attributes["arithmetic"]), geometry_of(body.call)
    first, second = rule.input, rule.weight
    assert isinstance(first, IntFormat)
    assert isinstance(second, IntFormat)
    x, weight, bias, x_scale, x_zero, w_scale, w_zero = body.inputs
    if x_scale is None:
        x_scale, x_zero = own_scale(body, x, first, None)
    channel = 0 if second.axis_for("weight") is not None else None
    if w_scale is None:
        w_scale, w_zero = own_scale(body, weight, second, channel)
    if geometry.spatial:  # cells of padding are zeros, which pass the multiplier as codes
        low, high = zip(*geometry.padding, strict=True)
        x = placed(body, x, low, [1] * geometry.spatial, high)
    a = codes(body, x, first, x_scale, x_zero, None)
    per_output = len(w_scale.shape) == 1 and w_scale.shape[0] != 1
    w = codes(body, weight, second, w_scale, w_zero, 0 if per_output else None)
    code_sums = _code_sums(body, w)
    names, outputs, reads, over = _accesses(geometry, a, w, body.outputs[0])
    total = body.transient("total", body.outputs[0].shape, dace.int64)
    combine, finish = _accumulated(rule.acc)
    body.sums(
        "products",
        dict(names),
        over,
        reads,
        _product(body, rule),
        total.at(*outputs),
        dtype=dace.int64,
        combine=combine,
        finish=finish,
    )
    n = outputs[1] if geometry.spatial else outputs[-1]
    scale_at = w_scale.at(n) if per_output else w_scale.at(*["0"] * len(w_scale.shape))
    one = {"__sx": x_scale.at(*["0"] * len(x_scale.shape))}
    one["__z"] = x_zero.at(*["0"] * len(x_zero.shape))
    beside = {"__t": total.at(*outputs), "__sw": scale_at, "__ws": code_sums.at(n), **one}
    last = ["scale = __sx * __sw", "y = dace.float32(__t - dace.int64(__z) * __ws) * scale"]
    if bias is not None:
        beside["__b"] = bias.at(n)
    last.append("__y = y" if bias is None else "__y = y + __b")
    body.each("scale", dict(names), beside, "\n".join(last), {"__y": body.outputs[0].at(*outputs)})


def _accesses(
    geometry: Geometry, a: Tensor, w: Tensor, result: Tensor
) -> tuple[dict[str, Any], list[str], dict[str, Any], dict[str, Any]]:
    """The result's map and indices, what a product reads, and what is summed over."""
    if geometry.spatial == 0:
        rows = [f"r{d}" for d in range(len(a.shape) - 1)]
        names = dict(zip([*rows, "n"], result.shape, strict=True))
        reads = {"__a": a.at(*rows, "k"), "__w": w.at("n", "k")}
        return names, [*rows, "n"], reads, {"k": a.shape[-1]}
    outputs, depth = w.shape[0] // geometry.groups, w.shape[1]
    axes = range(geometry.spatial)
    pixels, taps = [f"o{d}" for d in axes], [f"k{d}" for d in axes]
    at = [f"{geometry.stride[d]} * o{d} + {geometry.dilation[d]} * k{d}" for d in axes]
    names = {"b": result.shape[0], "g": geometry.groups, "c": outputs}
    names |= dict(zip(pixels, result.shape[2:], strict=True))
    channel = f"{outputs} * g + c"
    reads = {"__a": a.at("b", f"{depth} * g + i", *at), "__w": w.at(channel, "i", *taps)}
    over = {"i": depth, **dict(zip(taps, w.shape[2:], strict=True))}
    return names, ["b", channel, *pixels], reads, over


def _product(body: Body, rule: Arithmetic) -> str:
    """A product of two codes: of the exact multiplier, or read from its table."""
    mul = rule.code_multiplier
    if mul.bits is None:
        return "__v = dace.int64(__a) * dace.int64(__w)"
    table = np.asarray(mul.table().numpy(), dtype=np.int32)
    first, second = (1 << bits for bits in mul.bits)
    place = f"(dace.int64(__a) & {first - 1}) * {second} + (dace.int64(__w) & {second - 1})"
    if body.on_device:
        return f"__v = dace.int64({_device_table(body, table)}({place}))"
    name = "products_of_codes"
    body.sdfg.add_constant(name, table.ravel(), dace.data.Array(dace.int32, (table.size,)))
    return f"__v = dace.int64({name}[{place}])"


def _device_table(body: Body, table: np.ndarray) -> str:
    """A function that reads the table, which lies in the memory of the GPU once."""
    low, high = int(table.min()), int(table.max())
    kind = next(b for b in (8, 16, 32) if -(1 << (b - 1)) <= low and high < 1 << (b - 1))
    name = f"dv_product_{hashlib.sha256(table.tobytes()).hexdigest()[:12]}"
    values = ",".join(map(str, table.ravel().tolist()))
    text = (
        f"__device__ const int{kind}_t {name}_of[{table.size}] = {{{values}}};\n"
        f"__device__ inline int32_t {name}(int64_t i) {{ return {name}_of[i]; }}\n"
    )
    declare(body.outer, text, "cuda")
    return name


def _accumulated(acc: Any) -> tuple[str, str]:
    """How a product enters the register, and what is left in it at the end."""
    if acc is None:
        return "a + b", "__y = __sum"
    assert isinstance(acc, IntAccumulator)
    low, high = acc.range
    if acc.overflow == "wrap":
        half = 1 << (acc.bits - 1)
        return "a + b", f"__y = ((__sum + {half}) & {2 * half - 1}) - {half}"
    if acc.when == "end":
        return "a + b", f"__y = {_clamped('__sum', low, high)}"
    # As choices: DaCe takes a combination that begins with min() to be a minimum.
    return _clamped("(a + b)", low, high), "__y = __sum"


def _clamped(value: str, low: int, high: int) -> str:
    return f"({low} if {value} < {low} else ({high} if {value} > {high} else {value}))"


def _code_sums(body: Body, w: Tensor) -> Tensor:
    """The sum of each output's weight codes, of which zero points take a multiple off."""
    sums = body.transient("code_sums", (w.shape[0],), dace.int64)
    over = {f"k{d}": n for d, n in enumerate(w.shape[1:])}
    body.sums(
        "code_sums",
        {"n": w.shape[0]},
        over,
        {"__w": w.at("n", *over)},
        "__v = dace.int64(__w)",
        sums.at("n"),
        dtype=dace.int64,
    )
    return sums
