"""Products of two block formats in plain torch, on any device.

One matrix product per block whose sums are exact, whatever their order: integers below ``2**24`` in
float32 (below ``2**53`` in float64), times one power of two. Then one addition per block.

:func:`block_mac` adds in float32; :func:`block_totals` hands the same terms to an accumulator.
"""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from itertools import product
from math import prod

import torch
import torch.nn.functional as F
from torch import Tensor

from dovetail.accumulators import Accumulator
from dovetail.formats.block import PowerScaled
from dovetail.kernels.accumulate import Products, Totals, accumulate
from dovetail.kernels.block_codes import NAN_EXPONENT, Codes, bound, code_range, encode
from dovetail.kernels.geometry import Geometry

__all__ = ["block_mac", "block_totals", "pack"]


def pack(w: Tensor, second: PowerScaled, geometry: Geometry) -> Codes:
    """A weight's blocks: codes ``[taps, groups, outputs / groups, blocks, block]``."""
    grouped = w.detach().reshape(geometry.groups, w.shape[0] // geometry.groups, w.shape[1], -1)
    return encode(_wide(grouped.movedim(-1, 0)), second)


def block_mac(
    x: Tensor,
    taps: Codes,
    kernel: Sequence[int],
    bias: Tensor | None,
    first: PowerScaled,
    second: PowerScaled,
    geometry: Geometry,
) -> Tensor:
    """See :func:`dovetail.kernels.block_reference.block_mac`; ``taps`` is what :func:`pack` made
    of a weight with such a ``kernel`` (empty for a linear layer). The result is float32.

    >>> from dovetail.formats import format
    >>> from dovetail.kernels.geometry import LINEAR
    >>> fmt = format("bfp(m=8, block=2)")
    >>> x, w = torch.tensor([[1.0, 2.0, 3.0]]), torch.ones(1, 3)
    >>> block_mac(x, pack(w, fmt, LINEAR), (), None, fmt, fmt, LINEAR)
    tensor([[6.]])
    """
    work = _Work(x, taps, kernel, first, second, geometry)
    total = x.new_zeros(work.shape, dtype=torch.float32)
    near = work.narrow and not torch.compiler.is_compiling() and _near(work.blocks, taps)
    for window, other in work.taps() if total.numel() else ():
        _add_tap(total, window, other, work.exact, near)
    return work.result(total, bias)


def block_totals(
    x: Tensor,
    taps: Codes,
    kernel: Sequence[int],
    first: PowerScaled,
    second: PowerScaled,
    geometry: Geometry,
    acc: Accumulator,
    *,
    counting: bool = False,
) -> Totals:
    """What ``acc`` makes of the terms of each output: see `block_mac`; the total is float32.

    >>> from dovetail.accumulators import accumulator
    >>> from dovetail.formats import format
    >>> from dovetail.kernels.geometry import LINEAR
    >>> fmt = format("bfp(m=8, block=2)")
    >>> x, w = torch.tensor([[2048.0, 1.0, 1.0]]), torch.ones(1, 3)
    >>> taps = pack(w, fmt, LINEAR)
    >>> block_totals(x, taps, (), fmt, fmt, LINEAR, accumulator("fp16")).total
    tensor([[2048.]])
    """
    work = _Work(x, taps, kernel, first, second, geometry)
    if 0 in work.shape:
        return Totals(work.result(x.new_zeros(work.shape), None), None, 0)
    pairs, blocks = list(work.taps()), taps.codes.shape[-2]

    def term(place: int) -> Tensor:
        tap, block = divmod(place, blocks)
        one = [Codes(s.codes[:, :, block], s.exponents[:, :, block]) for s in pairs[tap]]
        x, y = (side.codes.to(work.exact) for side in one)
        return _term(x, y, *(side.scales() for side in one))

    terms = Products(
        len(pairs) * blocks,
        work.shape,
        None,
        lambda start, stop: torch.stack([term(i) for i in range(start, stop)]),
    )
    found = accumulate(terms, acc, x.device, counting=counting)
    overflows = None if found.overflows is None else work.arranged(found.overflows)
    return Totals(work.result(found.total.float(), None), overflows, found.additions)


class _Work:
    """A product's operands in blocks, and how its outputs lie: ``shape`` is ``[groups, batch and
    pixels, outputs of a group]``."""

    def __init__(
        self,
        x: Tensor,
        weights: Codes,
        kernel: Sequence[int],
        first: PowerScaled,
        second: PowerScaled,
        geometry: Geometry,
    ) -> None:
        groups, outputs = weights.codes.shape[1], weights.codes.shape[1] * weights.codes.shape[2]
        channels = x.shape[1 if geometry.spatial else -1] // groups
        self.geometry, self.kernel, self.weights = geometry, kernel, weights
        self.out = geometry.out_shape(x.shape, (outputs, channels, *kernel))
        self.shape = (groups, prod(self.out) // outputs, outputs // groups)
        self.narrow = _narrow(first, second)
        self.exact = torch.float32 if self.narrow else torch.float64
        x = _wide(x.detach())
        rows = _pixels(x, groups) if geometry.spatial else x.reshape(-1, groups, channels)
        self.blocks = encode(rows, first)

    def taps(self) -> Iterator[tuple[Codes, Codes]]:
        """For each tap, what all outputs read there, and its weights."""
        windows = _windows(self.blocks, self.geometry, self.kernel, self.out[2:])
        for tap, window in enumerate(windows):
            yield window, Codes(self.weights.codes[tap], self.weights.exponents[tap])

    def arranged(self, total: Tensor) -> Tensor:
        """A tensor of ``shape`` in the shape of the result."""
        if self.geometry.spatial == 0:
            return total.movedim(0, 1).reshape(self.out)
        # [groups, B * pixels, outputs] to [B, groups * outputs, *pixels]
        y = total.reshape(self.shape[0], self.out[0], *self.out[2:], -1)
        return y.movedim(-1, 1).movedim(2, 0).reshape(self.out)

    def result(self, total: Tensor, bias: Tensor | None) -> Tensor:
        y = self.arranged(total)
        if bias is not None:
            y = y + bias.float().reshape(-1, *[1] * self.geometry.spatial)
        return torch.where(y.isnan(), torch.nan, y)  # the one NaN, without sign or payload


def _wide(x: Tensor) -> Tensor:
    return x if x.dtype == torch.float64 else x.float()


def _narrow(first: PowerScaled, second: PowerScaled) -> bool:
    """float32 sums are exact, also where a device multiplies in TF32, of 11 bits."""
    widest = max(map(abs, (*code_range(first), *code_range(second))))
    return bound(first, second) <= 2**24 and widest <= 2**11


def _near(a: Codes, w: Codes) -> bool:
    """No term, nor a part of one, leaves the normal range of float32."""
    ends = []
    for side in (a, w):
        zero = (side.codes == 0).all(-1) | (side.exponents == NAN_EXPONENT)
        used = side.exponents[~zero]
        ends.append((int(used.min()), int(used.max())) if used.numel() else (0, 0))
    (low, high), (other_low, other_high) = ends
    small = min(low, other_low, low + other_low)
    return bool(small >= -126 and max(high, other_high, high + other_high) <= 103)


def _pixels(x: Tensor, groups: int) -> Tensor:
    """``[B, *spatial, groups, C / groups]``."""
    grouped: Tensor = torch.unflatten(x, 1, (groups, -1))
    return grouped.movedim((1, 2), (-2, -1))


def _windows(
    a: Codes, geometry: Geometry, kernel: Sequence[int], out: Sequence[int]
) -> Iterator[Codes]:
    """For each tap, what all outputs read of it: ``[groups, B * pixels, blocks, block]``."""
    codes, exponents = a
    if geometry.spatial == 0:
        yield Codes(codes.movedim(1, 0), exponents.movedim(1, 0))
        return
    pads = [p for pair in reversed(geometry.padding) for p in pair]
    codes = F.pad(codes, [0, 0] * 3 + pads)
    exponents = F.pad(exponents, [0, 0] * 2 + pads)
    for tap in product(*map(range, kernel)):
        moves = zip(tap, geometry.dilation, out, geometry.stride, strict=True)
        window = (slice(None), *(slice(t * d, t * d + (n - 1) * s + 1, s) for t, d, n, s in moves))
        parts = (t[window].flatten(0, geometry.spatial).movedim(1, 0) for t in (codes, exponents))
        yield Codes(*parts)


def _add_tap(total: Tensor, a: Codes, w: Codes, exact: torch.dtype, near: bool) -> None:
    """Add the terms of all blocks of one tap, one after the other."""
    scale_a, scale_w = (side.scales().movedim(2, 0) for side in (a, w))
    left, right = (side.codes.movedim(2, 0).contiguous() for side in (a, w))
    if near:  # the terms themselves, sums of values
        left = left * scale_a.float().unsqueeze(-1)
        right = right * scale_w.float().unsqueeze(-1)
        for x, y in zip(left, right, strict=True):
            total += _dot(x, y)
        return
    for x, y, u, v in zip(left.to(exact), right.to(exact), scale_a, scale_w, strict=True):
        total += _term(x, y, u, v)


def _term(x: Tensor, y: Tensor, u: Tensor, v: Tensor) -> Tensor:
    """One block's dots of one tap, times both scales, in float32."""
    return (_dot(x, y).double() * (u.unsqueeze(2) * v.unsqueeze(1))).float()


def _dot(x: Tensor, y: Tensor) -> Tensor:
    """``x [groups, rows, block]`` by ``y [groups, outputs, block]``."""
    return (x[0] @ y[0].mT)[None] if x.shape[0] == 1 else x @ y.mT
