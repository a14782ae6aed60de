"""The definition of a product of two block formats, as plain loops.

    sum = +0
    for each tap of the window, row by row; for each block of channels:
        term = float32(the exact sum of the products of the block's values)
        sum = float32(sum + term)
    sum = float32(sum * float32(g_x * g_w)), where one of the formats has a scale of the tensor
    y = float32(sum + bias)

A value is a code times its block's scale: with ``x_i = a_i * s`` and ``w_i = b_i * t`` a term is
``s * t * sum(a_i * b_i)``, an integer times both scales, rounded to nearest (ties to even) once.
Where the blocks of one operand are a multiple of the other's, dots end with the shorter ones.

Two E4M3 scales and a dot of 16 products of E2M1 have 20 bits, so NVFP4's terms are not rounded at
all, and the scales of the tensors (1 where a format has none) come last, as one factor: the
``alpha`` of the public FP4 kernels, whose block scales are operands of the instruction.

A padded pixel is a block of zeros. A block that holds NaN or an infinity has no value: its terms
are NaN.

An accumulator takes these float32 terms, in this order, where it else takes products
(:mod:`dovetail.accumulators.base`); its register is rounded to float32 in the end. So ``fp32`` is
the loop above.

A format that rounds stochastically takes values that are cast already.
"""

from __future__ import annotations

import math
from collections.abc import Iterator
from fractions import Fraction
from itertools import product
from typing import TypeVar

import numpy as np
import torch
from torch import Tensor

from dovetail.accumulators import Accumulator
from dovetail.accumulators.reference import accumulate
from dovetail.formats import NVFP4, FixedFormat, FloatFormat
from dovetail.formats.reference import block_parts, round_value, tensor_scale
from dovetail.kernels.block_codes import Blocked
from dovetail.kernels.geometry import Geometry

__all__ = ["block_mac"]

T = TypeVar("T")
#: Integers and the exact value of their unit; ``None`` for a block that has no value.
Block = tuple[list[int], Fraction] | None
_FP32 = FloatFormat(8, 23, saturation="SatNone")
_SMALLEST = Fraction(2) ** -1074  # of which every float64 is a multiple


def block_mac(
    x: Tensor,
    w: Tensor,
    bias: Tensor | None,
    first: Blocked,
    second: Blocked,
    geometry: Geometry,
    acc: Accumulator | None = None,
) -> Tensor:
    """``x [..., groups * K]`` by ``w [N, K]``, or ``x [B, C, *spatial]`` by
    ``w [O, C/groups, *kernel]``.

    >>> from dovetail.formats import format
    >>> from dovetail.kernels.geometry import LINEAR
    >>> fmt = format("bfp(m=8, block=2)")
    >>> block_mac(torch.tensor([[1.0, 2.0, 3.0]]), torch.ones(1, 3), None, fmt, fmt, LINEAR)
    tensor([[6.]])
    """
    shape = geometry.out_shape(x.shape, w.shape)
    # Channels last: what is summed. [..., groups, channels] and [outputs, *kernel, channels]
    channels = w.shape[1]
    if geometry.spatial:
        pixels = torch.unflatten(x, 1, (geometry.groups, channels)).movedim((1, 2), (-2, -1))
    else:
        pixels = x.reshape(-1, geometry.groups, channels)
    left, right = _Operand(pixels, first, second), _Operand(w.movedim(1, -1), second, first)
    terms = _conv if geometry.spatial else _linear
    sums = [_sum(found, acc) for found in terms(left, right, geometry, shape)]
    y = torch.tensor(sums, dtype=torch.float32).reshape(shape)
    if left.whole is not None or right.whole is not None:
        y = y * math.prod((torch.tensor(side.whole or 1.0) for side in (left, right)), start=1.0)
    if bias is not None:
        y = y + bias.reshape(-1, *[1] * geometry.spatial)
    return torch.where(y.isnan(), torch.nan, y)  # the one NaN, without sign or payload


class _Operand:
    """An operand ``[..., channels]`` in blocks of its format, cut where the other's end."""

    def __init__(self, x: Tensor, fmt: Blocked, other: Blocked) -> None:
        self.fmt, self.dot = fmt, min(fmt.block, other.block)
        self.wide = np.float64 if x.dtype == torch.float64 else np.float32
        self.x = x
        self.whole: float | None = None
        if isinstance(fmt, NVFP4):
            rows = x.double().reshape(-1, x.shape[-1]).tolist()
            self.whole = tensor_scale([block for row in rows for block in _runs(row, fmt.block)])
        self.zeros = self.blocks([0.0] * x.shape[-1])

    def at(self, *place: int) -> list[Block]:
        return self.blocks(self.x[place].tolist())

    def blocks(self, values: list[float]) -> list[Block]:
        found: list[Block] = []
        for run in _runs(values, self.fmt.block):
            if not all(map(math.isfinite, run)):
                found += [None for _ in _runs(run, self.dot)]
                continue
            if self.fmt.rounding.is_stochastic:
                codes, scale = [int(Fraction(v) / _SMALLEST) for v in run], _SMALLEST
            else:
                parts, scale = block_parts(run, self.fmt, self.wide, self.whole or 1.0)
                assert isinstance(self.fmt.element, (FixedFormat, FloatFormat))
                unit = 2.0**self.fmt.element.quantum
                codes, scale = [int(p / unit) for p in parts], Fraction(unit) * scale
            found += [(dot, scale) for dot in _runs(codes, self.dot)]
        return found


def _runs(values: list[T], length: int) -> list[list[T]]:
    return [values[i : i + length] for i in range(0, len(values), length)]


def _linear(
    x: _Operand, w: _Operand, geometry: Geometry, shape: tuple[int, ...]
) -> Iterator[list[float]]:
    """The terms of each output."""
    del shape
    columns = [w.at(n) for n in range(w.x.shape[0])]
    per_group = len(columns) // geometry.groups
    for m in range(x.x.shape[0]):
        row = [x.at(m, g) for g in range(geometry.groups)]
        for n, column in enumerate(columns):
            yield _terms([row[n // per_group]], [column])


def _conv(
    x: _Operand, w: _Operand, geometry: Geometry, shape: tuple[int, ...]
) -> Iterator[list[float]]:
    kernel = list(product(*map(range, w.x.shape[1:-1])))
    per_group = w.x.shape[0] // geometry.groups
    taps = [[w.at(n, *tap) for tap in kernel] for n in range(w.x.shape[0])]
    blocks = {place: x.at(*place) for place in product(*map(range, x.x.shape[:-1]))}
    for b, n, *at in product(*map(range, shape)):
        places = [(b, *_place(geometry, at, tap), n // per_group) for tap in kernel]
        yield _terms([blocks.get(place, x.zeros) for place in places], taps[n])


def _place(geometry: Geometry, at: list[int], tap: tuple[int, ...]) -> Iterator[int]:
    window = zip(at, geometry.stride, tap, geometry.dilation, geometry.padding, strict=True)
    return (p * s + t * d - low for p, s, t, d, (low, _) in window)


def _terms(window: list[list[Block]], weights: list[list[Block]]) -> list[float]:
    """The blocks' dots in float32."""
    return [
        math.nan if a is None or b is None else _term(a, b)
        for pixel, tap in zip(window, weights, strict=True)
        for a, b in zip(pixel, tap, strict=True)
    ]


def _term(a: tuple[list[int], Fraction], b: tuple[list[int], Fraction]) -> float:
    exact = sum(map(int.__mul__, a[0], b[0])) * (a[1] * b[1])
    return round_value(exact, _FP32)


def _sum(terms: list[float], acc: Accumulator | None) -> float:
    if acc is not None:
        return float(accumulate(terms, acc))
    total = np.float32(0)
    with np.errstate(all="ignore"):
        for term in terms:
            total = total + np.float32(term)
    return float(total)
