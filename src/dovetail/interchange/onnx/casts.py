"""Casts in ONNX operators, bit for bit those of :mod:`dovetail.formats`.

An element of a floating-point format is rounded to a multiple of a power of two, which a binary
search over the format's exponents finds by comparisons alone: dividing by it, rounding to an
integer and multiplying again are exact. bfloat16 and float16 are two Casts.
"""

from __future__ import annotations

import math

import numpy as np

from dovetail.errors import DovetailError
from dovetail.formats import FixedFormat, FloatFormat, Format, IntFormat
from dovetail.formats import format as to_format
from dovetail.formats.rounding import NEAREST_EVEN
from dovetail.interchange.onnx.codes import Grid, check_integers, codes, given_grid, own_grid
from dovetail.interchange.onnx.nodes import Nodes
from dovetail.interchange.onnx.operation import Operation
from dovetail.interchange.onnx.rounding import check_rounding, to_integers

__all__ = ["cast", "cast_by_range", "cast_integers"]


def cast_integers(op: Operation) -> str:
    """``dovetail::cast_integers``: quantised by a given scale, and back."""
    fmt = _integers(op)
    scale, zero = op.fixed(2), op.fixed(3)
    axis = op.node.args[4]
    if scale is None or zero is None:
        raise DovetailError(
            f"{op.label}: the scale of its '{fmt}' is computed from the input; the nearest that is "
            "written to ONNX: a constant one, or the format's own range, as in 'int8(dynamic)'"
        )
    along = [1] * len(op.shape(0))
    if isinstance(axis, int):
        along[axis] = -1
    return _requantised(op, fmt, given_grid(op.nodes, scale, zero, tuple(along)))


def cast_by_range(op: Operation) -> str:
    """``dovetail::cast_by_range``: quantised by the range of the tensor itself, and back."""
    fmt, channel = _integers(op), op.node.args[3]
    rank = len(op.shape(0))
    axes = None
    if isinstance(channel, int):
        axes = tuple(axis for axis in range(rank) if axis != channel % rank)
    grid = own_grid(op.nodes, op.value(0), fmt, axes, f"{op.label}: format")
    return _requantised(op, fmt, grid)


def _integers(op: Operation) -> IntFormat:
    fmt = to_format(str(op.node.args[1]))
    assert isinstance(fmt, IntFormat)
    check_integers(fmt, f"{op.label}: format")
    return fmt


def _requantised(op: Operation, fmt: IntFormat, grid: Grid) -> str:
    nodes = op.nodes
    steps = codes(nodes, op.value(0), fmt, grid)
    if grid.zero is not None:
        steps = nodes("Sub", steps, grid.zero)
    whole = nodes.widened(nodes.cast(steps, "INT32"))  # there is no -0 among codes
    return op.finished(nodes("Mul", whole, grid.scale))


def cast(op: Operation) -> str:
    """``dovetail::cast``: each value rounded by itself."""
    fmt = to_format(str(op.node.args[1]))
    if not isinstance(fmt, (FloatFormat, FixedFormat)):
        raise _refused(op, fmt, "there are no ONNX operators for it")
    check_rounding(fmt.rounding, f"{op.label}: format={fmt}")
    x = op.value(0)
    if isinstance(fmt, FixedFormat):
        return op.finished(_fixed(op, x, fmt))
    if op.nodes.wide is np.float32 and (target := _target(fmt)) is not None:
        y = op.nodes.widened(op.nodes.cast(x, target))
        return op.finished(_clamped(op.nodes, y, fmt) if fmt.saturation == "SatFinite" else y)
    return op.finished(_float(op, x, fmt))


def _refused(op: Operation, fmt: Format, why: str) -> DovetailError:
    return DovetailError(
        f"{op.label}: the cast to '{fmt}' is not written to ONNX: {why}; the nearest that are: "
        "'bf16', 'fp16', 'fp8_e4m3', 'fixed(8, 4)' and integers such as 'int8'"
    )


def _target(fmt: FloatFormat) -> str | None:
    """The element type whose Cast is this format's, saturation aside."""
    plain = fmt.specials == "ieee" and fmt.signed and fmt.subnormals and fmt.zero
    if not plain or fmt.rounding != NEAREST_EVEN or fmt.saturation == "SatPropagate":
        return None
    shapes = {(8, 7, 127): "BFLOAT16", (5, 10, 15): "FLOAT16"}
    return shapes.get((fmt.exponent, fmt.mantissa, fmt.offset))


def _clamped(nodes: Nodes, y: str, fmt: FloatFormat) -> str:
    inside = nodes("Clip", y, nodes.float(-fmt.max), nodes.float(fmt.max))
    known = nodes("Where", nodes("IsNaN", y), nodes.float(math.nan), nodes.float(1.0))
    return nodes("Mul", inside, known)


def _fixed(op: Operation, x: str, fmt: FixedFormat) -> str:
    if fmt.width > 24 or not 0 <= fmt.fraction <= 100:
        raise _refused(op, fmt, "of fixed point up to 24 bits and 0 to 100 fraction bits are")
    nodes, step = op.nodes, _power(op.nodes, fmt.quantum)
    is_nan = nodes("IsNaN", x)
    given = nodes("Where", is_nan, nodes.float(0.0), x)
    far = nodes.float(2.0 ** (24 - fmt.fraction))
    near = nodes("Clip", given, nodes("Neg", far), far)
    whole = to_integers(nodes, nodes("Div", near, step), fmt.rounding)
    if fmt.clamp:
        whole = nodes("Clip", whole, nodes.float(fmt.lowest), nodes.float(fmt.highest))
    y = nodes("Mul", whole, step)
    if not fmt.clamp:
        y = nodes("Where", nodes("Greater", nodes("Abs", given), far), given, y)
    y = nodes("Where", nodes("Equal", y, nodes.float(0.0)), nodes.float(0.0), y)
    return nodes("Where", is_nan, x, y)


def _power(nodes: Nodes, exponent: int) -> str:
    return nodes.float(math.ldexp(1.0, exponent))


def _float(op: Operation, x: str, fmt: FloatFormat) -> str:
    if not fmt.signed or fmt.mantissa == 0:
        raise _refused(op, fmt, "of floating-point formats those with a sign and a mantissa are")
    info = np.finfo(op.nodes.wide)
    small = info.minexp <= fmt.quantum <= 0 and fmt.mantissa < info.nmant
    if not small or fmt.emax > info.maxexp - 2:
        raise _refused(op, fmt, f"its steps leave the normal numbers of {info.dtype}")
    nodes, zero = op.nodes, op.nodes.float(0.0)
    is_nan = nodes("IsNaN", x)
    # Twice the largest power of two overflows as every larger number does.
    far = _power(nodes, fmt.emax + 1)
    near = nodes("Clip", nodes("Where", is_nan, zero, x), nodes("Neg", far), far)
    size = nodes("Abs", near)
    step = _step(nodes, size, fmt)
    whole = to_integers(nodes, nodes("Div", near, step), fmt.rounding)
    y = nodes("Abs", nodes("Mul", whole, step))
    if not fmt.subnormals:
        y = nodes("Where", nodes("Less", size, nodes.float(fmt.smallest_normal)), zero, y)
    # Of -0 only the reciprocal is negative.
    is_negative = nodes("Less", nodes("Div", nodes.float(1.0), near), zero)
    y = _saturated(nodes, y, nodes("IsInf", x), is_negative, fmt)
    # The sign comes last and by a product: onnxruntime's Where makes +0 of -0.
    sign = nodes("Where", is_negative, nodes.float(-1.0), nodes.float(1.0))
    y = nodes("Mul", y, nodes("Where", is_nan, x, sign))
    if fmt.has_negative_zero:
        return y
    return nodes("Where", nodes("Equal", y, zero), zero, y)


def _step(nodes: Nodes, size: str, fmt: FloatFormat) -> str:
    """The distance of a magnitude's neighbours.

    The power of two below it is found by ever smaller jumps, while it stays below.
    """
    first = fmt.quantum + fmt.mantissa
    power, span = _power(nodes, first), fmt.emax + 1 - first
    for jump in (*[64] * (span // 64), 32, 16, 8, 4, 2, 1):
        raised = nodes("Mul", power, _power(nodes, jump))
        power = nodes("Where", nodes("GreaterOrEqual", size, raised), raised, power)
    return nodes("Mul", power, _power(nodes, -fmt.mantissa))


def _saturated(nodes: Nodes, y: str, is_inf: str, is_negative: str, fmt: FloatFormat) -> str:
    """What becomes of magnitudes beyond the largest finite one, and of infinities."""
    top = nodes.float(fmt.max)
    inside = nodes("Min", y, top)
    if fmt.saturation == "SatFinite":
        return inside
    beyond = nodes.float(math.inf if fmt.has_inf else math.nan if fmt.has_nan else fmt.max)
    name = fmt.rounding.name
    if fmt.saturation == "SatPropagate" or name in ("TowardZero", "ToOdd"):
        return nodes("Where", is_inf, beyond, inside)
    if name in ("TowardPositive", "TowardNegative"):
        inward = is_negative if name == "TowardPositive" else nodes("Not", is_negative)
        y = nodes("Where", inward, inside, y)
    return nodes("Where", nodes("Or", is_inf, nodes("Greater", y, top)), beyond, y)
