"""Layers that multiply integer codes, in ONNX operators: :mod:`dovetail.kernels.layer`."""

from __future__ import annotations

from dataclasses import dataclass, replace
from math import prod

import numpy as np
from torch import Tensor

from dovetail.accumulators import Accumulator
from dovetail.arithmetic import Arithmetic
from dovetail.errors import DovetailError
from dovetail.formats import IntFormat
from dovetail.interchange.onnx.codes import Grid, check_integers, codes, given_grid, own_grid
from dovetail.interchange.onnx.factored import terms_of
from dovetail.interchange.onnx.operation import Operation
from dovetail.interchange.onnx.products import Window, of_constant, of_operands
from dovetail.interchange.onnx.registers import reduced
from dovetail.kernels.accumulated_mac import AccumulatedMac, plan_accumulated
from dovetail.kernels.geometry import LINEAR, Geometry
from dovetail.kernels.layer import integer, weight_codes
from dovetail.kernels.library import conv_geometry
from dovetail.kernels.realisation import Operands
from dovetail.multipliers import multiplier
from dovetail.multipliers.operands import IntArray

__all__ = ["conv", "linear", "matmul"]


@dataclass(frozen=True)
class _Sums:
    """What a layer has summed, in int64, and what its zero-point terms are made of, by name."""

    products: str
    first: Grid
    second: Grid
    first_sums: str | None  # of the input's codes, where the weight has a zero point
    second_sums: str | None  # of the weight's codes, where the input has one
    depth: int


def linear(op: Operation) -> str:
    """``dovetail::linear``."""
    rule = _rule(op)
    if op.fixed(1) is None:
        return _product(op, rule, op.value(1), len(op.shape(1)), bias=2, ranges=3)
    return _with_weight(op, rule, LINEAR)


def conv(op: Operation) -> str:
    """``dovetail::conv``."""
    stride, padding, dilation, groups = op.node.args[7:11]
    geometry = conv_geometry(stride, padding, dilation, groups)  # type: ignore[arg-type]
    if op.fixed(1) is None:
        raise DovetailError(
            f"{op.label}: its weight is computed from the input, which is written to ONNX for "
            "linear and matmul only"
        )
    return _with_weight(op, _rule(op), geometry)


def matmul(op: Operation) -> str:
    """``dovetail::matmul``."""
    rank = len(op.shape(1))
    turned = op.nodes("Transpose", op.value(1), perm=_last_turned(rank))
    return _product(op, _rule(op), turned, rank, bias=None, ranges=2)


def _rule(op: Operation) -> Arithmetic:
    rule = Arithmetic.parse(str(op.node.args[-1]))
    check_integers(integer(rule.input), f"{op.label}: input")
    check_integers(integer(rule.weight), f"{op.label}: weight")
    return rule


def _with_weight(op: Operation, rule: Arithmetic, geometry: Geometry) -> str:
    """A layer whose weight is known: its codes are constants."""
    nodes, weight = op.nodes, op.fixed(1)
    assert weight is not None
    given = _given(op, 5)
    w, (scale, zero) = weight_codes(weight, integer(rule.weight), given)
    known = w.numpy().astype(np.int64)
    along = (-1, *[1] * geometry.spatial)
    x, shape = op.value(0), op.shape(0)
    first = _grid(op, x, 3, integer(rule.input), None, "input")
    if any(p for pair in geometry.padding for p in pair):
        x, shape = _padded(op, x, shape, geometry)
    a = codes(nodes, x, integer(rule.input), first)
    window = Window(replace(geometry, padding=((0, 0),) * geometry.spatial), shape, op.result)
    terms = terms_of(rule, op.label)
    second = given_grid(nodes, scale, zero, along)
    sums = of_constant(nodes, a, known, terms, window)
    depth = prod(known.shape[1:])
    acc = _needed(rule, w, geometry, depth)
    code_sums = known.reshape(len(known), -1).sum(1).reshape(along)
    found = _Sums(
        products=reduced(nodes, sums, acc, _bound(rule, depth), op.label),
        first=first,
        second=second,
        first_sums=None if second.zero is None else _window_sums(op, a, rule, known, window),
        second_sums=None if first.zero is None else nodes.constant(code_sums),
        depth=depth,
    )
    return _scaled(op, found, bias=2, along=along)


def _product(
    op: Operation, rule: Arithmetic, w: str, rank: int, bias: int | None, ranges: int
) -> str:
    """A product of two operands that are both computed, ``w [..., N, K]``."""
    nodes, (x, shape) = op.nodes, (op.value(0), op.shape(0))
    first = _grid(op, x, ranges, integer(rule.input), None, "input")
    fmt = integer(rule.weight)
    role = "second" if op.kind == "matmul" else "weight"
    channels = None if fmt.axis_for(role) is None else (1,)
    second = _grid(op, w, ranges + 2, fmt, channels, "weight")
    a, b = codes(nodes, x, integer(rule.input), first), codes(nodes, w, fmt, second)
    depth = shape[-1]
    terms = terms_of(rule, op.label)
    sums = of_operands(nodes, a, b, terms, (len(shape), rank), op.result, depth)

    def added(name: str) -> str:
        whole = nodes.cast(name, "INT64")
        return nodes("ReduceSum", whole, nodes.ints(-1), keepdims=1)

    second_sums = None
    if first.zero is not None:
        second_sums = nodes("Transpose", added(b), perm=_last_turned(rank))
    if channels is not None:  # [N, 1] was for the codes, [N] is for the sums
        second = Grid(
            nodes.reshape(second.scale, (-1,)),
            None if second.zero is None else nodes.reshape(second.zero, (-1,)),
        )
    found = _Sums(
        products=reduced(nodes, sums, rule.acc, _bound(rule, depth), op.label),
        first=first,
        second=second,
        first_sums=None if second.zero is None else added(a),
        second_sums=second_sums,
        depth=depth,
    )
    return _scaled(op, found, bias=bias, along=(-1,))


def _last_turned(rank: int) -> list[int]:
    return [*range(rank - 2), rank - 1, rank - 2]


def _given(op: Operation, place: int) -> tuple[Tensor, Tensor] | None:
    scale, zero = op.fixed(place), op.fixed(place + 1)
    return None if scale is None or zero is None else (scale, zero)


def _grid(
    op: Operation, x: str, place: int, fmt: IntFormat, axes: tuple[int, ...] | None, slot: str
) -> Grid:
    """The range that stands at ``place`` of the arguments, or the operand's own."""
    given = _given(op, place)
    if given is not None:
        return given_grid(op.nodes, *given, (-1, 1))
    return own_grid(op.nodes, x, fmt, axes, f"{op.label}: {slot}")


def _padded(
    op: Operation, x: str, shape: tuple[int, ...], geometry: Geometry
) -> tuple[str, tuple[int, ...]]:
    """With zeros around it: padded pixels are values, and become codes as all others do."""
    low = [0, 0, *(pair[0] for pair in geometry.padding)]
    high = [0, 0, *(pair[1] for pair in geometry.padding)]
    wider = tuple(n + a + b for n, a, b in zip(shape, low, high, strict=True))
    return op.nodes("Pad", x, op.nodes.ints(*low, *high)), wider


def _bound(rule: Arithmetic, depth: int) -> int:
    return Operands(*rule.code_ranges).bound(rule.code_multiplier) * depth


def _needed(rule: Arithmetic, w: Tensor, geometry: Geometry, depth: int) -> Accumulator | None:
    """The accumulator; None where these very weights can never make it overflow."""
    if rule.acc is None:
        return None
    kernel = plan_accumulated(rule.code_multiplier, Operands(*rule.code_ranges), rule.acc, depth)
    if isinstance(kernel, AccumulatedMac) and kernel.pack(w, geometry).never_overflows:
        return None
    return rule.acc


def _window_sums(op: Operation, a: str, rule: Arithmetic, w: IntArray, window: Window) -> str:
    """The sum of the input's codes under each output's window: exact products with ones."""
    plain = terms_of(rule.with_({"mul": multiplier("exact")}), op.label)
    return of_constant(op.nodes, a, np.ones_like(w), plain, window)


def _scaled(op: Operation, sums: _Sums, bias: int | None, along: tuple[int, ...]) -> str:
    """``float(sums less the zero points' terms) * (scale of x * scale of w) + bias``."""
    nodes, total = op.nodes, sums.products
    first, second = (
        None if grid.zero is None else nodes.cast(grid.zero, "INT64")
        for grid in (sums.first, sums.second)
    )
    if first is not None and sums.second_sums is not None:
        total = nodes("Sub", total, nodes("Mul", first, sums.second_sums))
    if second is not None and sums.first_sums is not None:
        total = nodes("Sub", total, nodes("Mul", second, sums.first_sums))
        if first is not None:
            both = nodes("Mul", nodes("Mul", first, second), nodes.ints(sums.depth))
            total = nodes("Add", total, both)
    scale = nodes("Mul", sums.first.scale, sums.second.scale)
    y = nodes("Mul", nodes.widened(total), scale)
    if bias is not None and op.is_given(bias):
        y = nodes("Add", y, nodes.reshape(op.value(bias), along))
    return op.finished(y)
