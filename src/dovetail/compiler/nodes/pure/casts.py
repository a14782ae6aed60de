"""Casts written out: elements one by one, blocks with their largest magnitude first.

Each result is written where it is asked for: the values, and where they do not clip.
"""

from __future__ import annotations

import copy
from typing import Any

from dovetail.compiler.engine import load_dace
from dovetail.compiler.nodes.pure.body import Body, Tensor
from dovetail.compiler.nodes.pure.scalars import (
    cover,
    float_value,
    integer_code,
    scaled_value,
)
from dovetail.formats import IntFormat
from dovetail.formats import format as to_format
from dovetail.formats.block import PowerScaled
from dovetail.formats.fixed import FixedFormat
from dovetail.formats.floating import FloatFormat
from dovetail.kernels.cast_structs import element_of

__all__ = ["cast", "cast_by_range", "cast_integers", "codes", "own_scale"]

dace = load_dace()


def cast(body: Body) -> None:
    """``dovetail::cast``, and with its mask."""
    fmt = to_format(body.call.attributes["format"])
    x, y = body.input(0), body.outputs[0]
    if isinstance(fmt, PowerScaled):
        _blocks(body, fmt)
        return
    assert isinstance(fmt, (FloatFormat, FixedFormat))
    element = element_of(fmt)
    assert element is not None
    points = _points(x)
    code = float_value(element, fmt.rounding.name)
    reads = {"__x": x.at(*points)}
    if y is not None:
        body.each("cast", points, reads, code, {"__y": y.at(*points)})
    _mask(body, reads, ["r = dace.float64(__x)"], fmt.bounds)


def _mask(
    body: Body, reads: dict[str, Any], steps: list[str], ends: tuple[float, float], sign: str = ""
) -> None:
    """Where ``steps`` leave an ``r`` between ``ends``: with the sign ``=`` those belong to it."""
    if len(body.outputs) < 2 or body.outputs[1] is None:
        return
    points, mask = _points(body.input(0)), body.outputs[1]
    test = f"__m = (r >{sign} {ends[0]!r} and r <{sign} {ends[1]!r})"
    if not body.call.attributes["clip"]:
        steps, test = [], "__m = (__x - __x == 0)"
        reads = {"__x": reads["__x"]}
    reads = {name: copy.deepcopy(memlet) for name, memlet in reads.items()}
    body.each("inside", points, reads, "\n".join([*steps, test]), {"__m": mask.at(*points)})


def _points(x: Tensor) -> dict[str, Any]:
    return {f"i{d}": n for d, n in enumerate(x.shape)}


def _blocks(body: Body, fmt: PowerScaled) -> None:
    x, y = body.input(0), body.outputs[0]
    element = fmt.element
    assert isinstance(element, (FloatFormat, FixedFormat))
    axis = body.call.attributes["axis"] if fmt.axis is None else fmt.axis
    axis = axis % len(x.shape)
    length = x.shape[axis]
    block = min(fmt.block, length) if isinstance(length, int) else fmt.block
    count = -(-length // block)
    shape = (*x.shape[:axis], count, *x.shape[axis + 1 :])
    big = body.transient("largest", shape, dace.float64)
    exponent = body.transient("exponent", shape, dace.int32)
    points = _points(x)
    own, inside = list(points), list(points)
    own[axis], inside[axis] = f"i{axis}", f"{block} * i{axis} + k"
    size = str(block) if length % block == 0 else f"min({block}, {length} - {block} * i{axis})"
    body.sums(
        "largest",
        dict(zip(points, shape, strict=True)),
        {"k": size},
        {"__x": x.at(*inside)},
        "__v = (dace.float64(fabs(__x)) if __x == __x else 1e999)",
        big.at(*own),
        dtype=dace.float64,
        combine="max(a, b)",
    )
    blocks = dict(zip(points, shape, strict=True))
    reads = {"__m": big.at(*own)}
    body.each("exponent", blocks, reads, _exponent(fmt), {"__e": exponent.at(*own)})
    struct = element_of(element)
    assert struct is not None
    mine = list(points)
    mine[axis] = f"int_floor(i{axis}, {block})"
    reads = {"__x": x.at(*points), "__e": exponent.at(*mine), "__big": big.at(*mine)}
    code = scaled_value(struct, fmt.rounding.name)
    if y is not None:
        body.each("cast", points, reads, code, {"__y": y.at(*points)})
    ratio = "r = (ldexp(dace.float64(__x), -__e) if __big < 1e308 else 1e999)"
    _mask(body, reads, [ratio], element.bounds)


def _exponent(fmt: PowerScaled) -> str:
    """From a block's largest magnitude ``__m`` to the exponent ``__e`` of its scale."""
    above = {
        "FLOOR": "0",
        "CEIL": "(1 if f > 1.0 else 0)",
        "EVEN": f"(1 if f >= {2 - 2.0 ** -(fmt.mantissa_bits + 1)!r} else 0)",
        "RCEIL": f"(1 if f > {_fraction(fmt.element.max)!r} else 0)",
    }[fmt.mode]
    low, high = fmt.exponents
    return "\n".join(
        [
            "p = max(min(ilogb(__m), 1023), -1023)",
            "f = (ldexp(__m, -p) if __m > 0.0 else 1.0)",
            f"__e = min(max(p + {above} - {fmt.element.emax}, {low}), {high})",
        ]
    )


def _fraction(value: float) -> float:
    """A number with its exponent taken off: from 1 up to 2."""
    while value >= 2:
        value /= 2
    while value < 1:
        value *= 2
    return value


def codes(
    body: Body, x: Tensor, fmt: IntFormat, scale: Tensor, zero: Tensor, channel: int | None
) -> Tensor:
    """The codes of ``x``, as integers in float32; ``channel`` has the scales."""
    found = body.transient("codes", x.shape, dace.float32)
    points = _points(x)
    place = ["0"] * len(scale.shape) if channel is None else [f"i{channel}"]
    zeros = ["0"] * len(zero.shape) if channel is None else [f"i{channel}"]
    reads = {"__x": x.at(*points), "__s": scale.at(*place), "__z": zero.at(*zeros)}
    body.each("quantise", points, reads, integer_code(fmt), {"__y": found.at(*points)})
    return found


def own_scale(body: Body, x: Tensor, fmt: IntFormat, channel: int | None) -> tuple[Tensor, Tensor]:
    """The scale and zero point that the values of ``x`` ask for, one or per channel."""
    shape = () if channel is None else (x.shape[channel],)
    at = [] if channel is None else ["i0"]
    ranges = dict(zip(at, shape, strict=True))
    ends = [_end(body, x, channel, *which) for which in (("low", "min"), ("high", "max"))]
    scale = body.transient("scale", shape, dace.float32)
    zero = body.transient("zero", shape, dace.int32)
    reads = {"__low": ends[0].at(*at), "__high": ends[1].at(*at)}
    body.each("cover", ranges, reads, cover(fmt), {"__s": scale.at(*at), "__z": zero.at(*at)})
    return scale, zero


def _end(body: Body, x: Tensor, channel: int | None, name: str, combine: str) -> Tensor:
    """The least or the largest finite value of each channel, or zero, which codes cover anyway.

    On a GPU one dimension after the other, so that there are threads for all but the last.
    """
    finite = f"__v = (__x if fabs(__x) <= {3.4028234663852886e38!r} else dace.float32(0))"
    kept = [] if channel is None else [channel]
    rest = [d for d in range(len(x.shape)) if d not in kept]
    steps = [[d] for d in reversed(rest)] if body.on_device and rest else [rest]
    dims = sorted(kept + rest)  # those of x that are left
    for step in steps:
        left = [d for d in dims if d not in step]
        end = body.transient(name, [x.shape[dims.index(d)] for d in left], dace.float32)
        points = {d: f"i{n}" for n, d in enumerate(left)} | {d: f"k{d}" for d in step}
        body.sums(
            name,
            {points[d]: x.shape[dims.index(d)] for d in left},
            {points[d]: x.shape[dims.index(d)] for d in step},
            {"__x": x.at(*(points[d] for d in dims))},
            finite,
            end.at(*(points[d] for d in left)),
            dtype=dace.float32,
            combine=f"{combine}(a, b)",
        )
        x, dims = end, left
    return x


def cast_integers(body: Body) -> None:
    """``dovetail::cast_integers``: with a given scale."""
    axis = body.call.attributes["axis"]
    scale = body.input(1)
    many = len(scale.shape) == 1 and axis is not None
    _on_grid(body, scale, body.input(2), axis % len(body.input(0).shape) if many else None)


def cast_by_range(body: Body) -> None:
    """``dovetail::cast_by_range``: with the scales that the values ask for."""
    fmt = to_format(body.call.attributes["format"])
    assert isinstance(fmt, IntFormat)
    channel = body.call.attributes["channel"]
    if channel is not None:
        channel = channel % len(body.input(0).shape)
    scale, zero = own_scale(body, body.input(0), fmt, channel)
    _on_grid(body, scale, zero, channel)


def _on_grid(body: Body, scale: Tensor, zero: Tensor, channel: int | None) -> None:
    fmt = to_format(body.call.attributes["format"])
    assert isinstance(fmt, IntFormat)
    x, y = body.input(0), body.outputs[0]
    points = _points(x)
    place = ["0"] * len(scale.shape) if channel is None else [f"i{channel}"]
    grid = {"__s": scale.at(*place), "__z": zero.at(*place)}
    if y is not None:
        found = codes(body, x, fmt, scale, zero, channel)
        reads = {"__c": found.at(*points), **grid}
        value = "__y = (__c - dace.float32(__z)) * __s"
        body.each("dequantise", points, reads, value, {"__y": y.at(*points)})
    steps = ["n = __x / __s", "r = dace.float32(rint(n)) + dace.float32(__z)"]
    _mask(body, {"__x": x.at(*points), **grid}, steps, (fmt.qmin, fmt.qmax), "=")
