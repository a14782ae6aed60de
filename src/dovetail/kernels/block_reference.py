"""The definition of a product of two block formats, as plain loops.

    sum = +0
    for each tap of the window, row by row; for each block of channels:
        dot = the exact sum of the block's products of integers
        sum = float32(sum + float32(dot * 2**(e_x + e_w)))
    y = float32(sum + bias)

The inner ``float32`` is exact as long as ``|dot| <= 2**24`` and the term is neither subnormal nor
beyond the largest float32. A padded pixel is a block of zeros. A block that holds NaN or an
infinity has no value: its terms are NaN.

An accumulator takes these float32 terms, in this order, where it else takes products
(:mod:`dovetail.accumulators.base`); its register is rounded to float32 in the end. So ``fp32`` is
the loop above.
"""

from __future__ import annotations

import math
from collections.abc import Iterator
from fractions import Fraction
from itertools import product

import numpy as np
import torch
from torch import Tensor

from dovetail.accumulators import Accumulator
from dovetail.accumulators.reference import accumulate
from dovetail.formats import FixedFormat, FloatFormat
from dovetail.formats.block import PowerScaled
from dovetail.formats.reference import round_value, shared_exponent
from dovetail.kernels.geometry import Geometry

__all__ = ["block_mac"]

Block = tuple[list[int], int | None]


def block_mac(
    x: Tensor,
    w: Tensor,
    bias: Tensor | None,
    first: PowerScaled,
    second: PowerScaled,
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
    if geometry.spatial == 0:
        rows = [
            [_blocks(group, first) for group in row]
            for row in x.reshape(-1, geometry.groups, w.shape[1]).tolist()
        ]
        columns = [_blocks(row, second) for row in w.tolist()]
        per_group = len(columns) // geometry.groups
        terms = [
            _terms([row[n // per_group]], [column])
            for row in rows
            for n, column in enumerate(columns)
        ]
    else:
        terms = list(_conv(x, w, first, second, geometry, shape))
    sums = [_sum(found, acc) for found in terms]
    y = torch.tensor(sums, dtype=torch.float32).reshape(shape)
    if bias is not None:
        y = y + bias.reshape(-1, *[1] * geometry.spatial)
    return torch.where(y.isnan(), torch.nan, y)  # the one NaN, without sign or payload


def _conv(
    x: Tensor,
    w: Tensor,
    first: PowerScaled,
    second: PowerScaled,
    geometry: Geometry,
    shape: tuple[int, ...],
) -> Iterator[list[float]]:
    """The terms of each output."""
    channels, per_group = w.shape[1], w.shape[0] // geometry.groups
    kernel = list(product(*map(range, w.shape[2:])))
    zeros = _blocks([0.0] * channels, first)
    # Channels last: what is summed.
    weights = w.movedim(1, -1)
    pixels = torch.unflatten(x, 1, (geometry.groups, channels)).movedim(2, -1)
    taps = [[_blocks(output[tap].tolist(), second) for tap in kernel] for output in weights]
    blocks = {
        place: _blocks(pixels[place].tolist(), first)
        for place in product(*map(range, pixels.shape[:-1]))
    }
    for b, n, *at in product(*map(range, shape)):
        places = [tuple(_place(geometry, at, tap)) for tap in kernel]
        window = [blocks.get((b, n // per_group, *place), zeros) for place in places]
        yield _terms(window, taps[n])


def _place(geometry: Geometry, at: list[int], tap: tuple[int, ...]) -> Iterator[int]:
    window = zip(at, geometry.stride, tap, geometry.dilation, geometry.padding, strict=True)
    return (p * s + t * d - low for p, s, t, d, (low, _) in window)


def _blocks(values: list[float], fmt: PowerScaled) -> list[Block]:
    """Integers and the exponent of their unit, block by block; no exponent for NaN."""
    element = fmt.element
    assert isinstance(element, (FixedFormat, FloatFormat))
    found: list[Block] = []
    for start in range(0, len(values), fmt.block):
        block = values[start : start + fmt.block]
        if not all(map(math.isfinite, block)):
            found.append(([0] * len(block), None))
            continue
        scale = shared_exponent(Fraction(max(map(abs, block))), fmt)
        rounded = [round_value(Fraction(v) / Fraction(2) ** scale, element) for v in block]
        codes = [int(r / 2.0**element.quantum) for r in rounded]
        found.append((codes, scale + element.quantum))
    return found


def _terms(window: list[list[Block]], weights: list[list[Block]]) -> list[float]:
    """The blocks' dots, scaled, in float32."""
    terms = []
    with np.errstate(all="ignore"):
        for pixel, tap in zip(window, weights, strict=True):
            for (a, ea), (w, ew) in zip(pixel, tap, strict=True):
                dot = sum(map(int.__mul__, a, w))
                # Exact in Python's double: at most 53 bits, far from the ends of its range.
                term = math.nan if ea is None or ew is None else math.ldexp(dot, ea + ew)
                terms.append(float(np.float32(term)))
    return terms


def _sum(terms: list[float], acc: Accumulator | None) -> float:
    if acc is not None:
        return float(accumulate(terms, acc))
    total = np.float32(0)
    with np.errstate(all="ignore"):
        for term in terms:
            total = total + np.float32(term)
    return float(total)
