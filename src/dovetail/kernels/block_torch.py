"""Products of two block formats in plain torch, on any device.

One matrix product per block whose sums are exact, whatever their order: integers below ``2**24`` in
float32 (below ``2**53`` in float64), times both scales; or two of them, of the high bits of the
first operand and the low ones (:mod:`.block_pairs`). Then one addition per block.

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
from dovetail.kernels.accumulate import Products, Totals, accumulate
from dovetail.kernels.block_codes import Codes, encode
from dovetail.kernels.block_pairs import Pair
from dovetail.kernels.geometry import Geometry

__all__ = ["block_mac", "block_totals", "pack", "rows_of"]


def pack(w: Tensor, pair: Pair, geometry: Geometry) -> Codes:
    """A weight's blocks: codes ``[taps, groups, outputs / groups, blocks, block]``."""
    grouped = w.detach().reshape(geometry.groups, w.shape[0] // geometry.groups, w.shape[1], -1)
    return encode(_wide(grouped.movedim(-1, 0)), pair.second, pair.dot)


def block_mac(
    x: Tensor,
    taps: Codes,
    kernel: Sequence[int],
    bias: Tensor | None,
    pair: Pair,
    geometry: Geometry,
) -> Tensor:
    """See :func:`dovetail.kernels.block_reference.block_mac`; ``taps`` is what :func:`pack` made
    of a weight with such a ``kernel`` (empty for a linear layer). The result is float32.

    >>> from dovetail.formats import format
    >>> from dovetail.kernels.block_pairs import pair_of
    >>> from dovetail.kernels.geometry import LINEAR
    >>> pair = pair_of(format("bfp(m=8, block=2)"), format("mxfp8_e4m3"))
    >>> x, w = torch.tensor([[1.0, 2.0, 3.0]]), torch.ones(1, 3)
    >>> block_mac(x, pack(w, pair, LINEAR), (), None, pair, LINEAR)
    tensor([[6.]])
    """
    work = _Work(x, taps, kernel, pair, geometry)
    total = x.new_zeros(work.shape, dtype=torch.float32)
    near = _narrow(pair) and not torch.compiler.is_compiling() and _near(work.blocks, taps)
    for window, other in work.taps() if total.numel() else ():
        if near:
            _add_values(total, window, other)
        else:
            _add_terms(total, window, other, pair)
    return work.result(total, bias)


def block_totals(
    x: Tensor,
    taps: Codes,
    kernel: Sequence[int],
    pair: Pair,
    geometry: Geometry,
    acc: Accumulator,
    *,
    counting: bool = False,
) -> Totals:
    """What ``acc`` makes of the terms of each output: see `block_mac`; the total is float32.

    It is what :func:`block_mac` gives without a bias; ``acc`` sees the sums before NVFP4's scales
    of the tensors.

    >>> from dovetail.accumulators import accumulator
    >>> from dovetail.formats import format
    >>> from dovetail.kernels.block_pairs import pair_of
    >>> from dovetail.kernels.geometry import LINEAR
    >>> pair = pair_of(format("bfp(m=8, block=2)"), format("bfp(m=8, block=2)"))
    >>> x, w = torch.tensor([[2048.0, 1.0, 1.0]]), torch.ones(1, 3)
    >>> block_totals(x, pack(w, pair, LINEAR), (), pair, LINEAR, accumulator("fp16")).total
    tensor([[2048.]])
    """
    work = _Work(x, taps, kernel, pair, geometry)
    if 0 in work.shape:
        return Totals(work.result(x.new_zeros(work.shape), None), None, 0)
    pairs, blocks = list(work.taps()), taps.codes.shape[-2]

    def term(place: int) -> Tensor:
        tap, block = divmod(place, blocks)
        a, w = (Codes(side.codes[:, :, block], side.scales[:, :, block]) for side in pairs[tap])
        return _term(a, w, pair)

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
        pair: Pair,
        geometry: Geometry,
    ) -> None:
        groups, outputs = weights.codes.shape[1], weights.codes.shape[1] * weights.codes.shape[2]
        channels = x.shape[1 if geometry.spatial else -1] // groups
        self.geometry, self.kernel, self.weights = geometry, kernel, weights
        self.out = geometry.out_shape(x.shape, (outputs, channels, *kernel))
        self.shape = (groups, prod(self.out) // outputs, outputs // groups)
        rows = rows_of(_wide(x.detach()), geometry)
        self.blocks = encode(rows, pair.first, pair.dot)

    def taps(self) -> Iterator[tuple[Codes, Codes]]:
        """For each tap, what all outputs read there, and its weights."""
        windows = _windows(self.blocks, self.geometry, self.kernel, self.out[2:])
        for tap, window in enumerate(windows):
            yield window, Codes(self.weights.codes[tap], self.weights.scales[tap])

    def arranged(self, total: Tensor) -> Tensor:
        """A tensor of ``shape`` in the shape of the result."""
        if self.geometry.spatial == 0:
            return total.movedim(0, 1).reshape(self.out)
        # [groups, B * pixels, outputs] to [B, groups * outputs, *pixels]
        y = total.reshape(self.shape[0], self.out[0], *self.out[2:], -1)
        return y.movedim(-1, 1).movedim(2, 0).reshape(self.out)

    def result(self, total: Tensor, bias: Tensor | None) -> Tensor:
        y = self.arranged(total)
        wholes = [g for g in (self.blocks.whole, self.weights.whole) if g is not None]
        if wholes:
            y = y * prod(wholes[1:], start=wholes[0])
        if bias is not None:
            y = y + bias.float().reshape(-1, *[1] * self.geometry.spatial)
        return torch.where(y.isnan(), torch.nan, y)  # the one NaN, without sign or payload


def _wide(x: Tensor) -> Tensor:
    return x if x.dtype == torch.float64 else x.float()


def _narrow(pair: Pair) -> bool:
    """float32 sums are exact, also where a device multiplies in TF32, of 11 bits."""
    return pair.bound <= 2**24 and pair.widest <= 2**11 and not pair.cast_already


def _near(a: Codes, w: Codes) -> bool:
    """No term, nor a part of one, leaves the normal range of float32.

    A scale of up to 11 bits, as :func:`_narrow` lets pass, is a multiple of its exponent less 11.
    """
    ends = []
    for side in (a, w):
        used = side.scales[(side.codes != 0).any(-1)]
        exponents = torch.frexp(used).exponent
        ends.append((int(exponents.min()) - 11, int(exponents.max())) if used.numel() else (0, 0))
    (low, high), (other_low, other_high) = ends
    small = min(low, other_low, low + other_low)
    return bool(small >= -126 and max(high, other_high, high + other_high) <= 103)


def rows_of(x: Tensor, geometry: Geometry) -> Tensor:
    """What blocks run along last: ``[rows, groups, K]`` or ``[B, *spatial, groups, C / groups]``.

    >>> rows_of(torch.zeros(2, 6, 4, 5), Geometry.conv(2, groups=3)).shape
    torch.Size([2, 4, 5, 3, 2])
    """
    if geometry.spatial == 0:
        return x.reshape(-1, geometry.groups, x.shape[-1] // geometry.groups)
    grouped: Tensor = torch.unflatten(x, 1, (geometry.groups, -1))
    return grouped.movedim((1, 2), (-2, -1))


def _windows(
    a: Codes, geometry: Geometry, kernel: Sequence[int], out: Sequence[int]
) -> Iterator[Codes]:
    """For each tap, what all outputs read of it: ``[groups, B * pixels, blocks, block]``."""
    codes, scales, _ = a
    if geometry.spatial == 0:
        yield Codes(codes.movedim(1, 0), scales.movedim(1, 0))
        return
    pads = [p for pair in reversed(geometry.padding) for p in pair]
    codes = F.pad(codes, [0, 0] * 3 + pads)
    scales = F.pad(scales, [0, 0] * 2 + pads)
    for tap in product(*map(range, kernel)):
        moves = zip(tap, geometry.dilation, out, geometry.stride, strict=True)
        window = (slice(None), *(slice(t * d, t * d + (n - 1) * s + 1, s) for t, d, n, s in moves))
        parts = (t[window].flatten(0, geometry.spatial).movedim(1, 0) for t in (codes, scales))
        yield Codes(*parts)


def _add_values(total: Tensor, a: Codes, w: Codes) -> None:
    """Add the terms of all blocks of one tap, sums of values in float32, one after the other."""
    left, right = (_values(side) for side in (a, w))
    for x, y in zip(left, right, strict=True):
        total += _dot(x, y)


def _values(side: Codes) -> Tensor:
    """Blocks first."""
    values = side.codes * side.scales.float().unsqueeze(-1)
    return values.movedim(2, 0).contiguous()


def _add_terms(total: Tensor, a: Codes, w: Codes, pair: Pair) -> None:
    """Add the terms of all blocks of one tap, one after the other."""
    for x, y in zip(_one_by_one(a), _one_by_one(w), strict=True):
        total += _term(x, y, pair)


def _one_by_one(side: Codes) -> list[Codes]:
    """Its blocks."""
    parts = zip(side.codes.unbind(2), side.scales.unbind(2), strict=True)
    return [Codes(codes, scales) for codes, scales in parts]


def _term(a: Codes, w: Codes, pair: Pair) -> Tensor:
    """One block's dots of one tap, times both scales, in float32."""
    exact = torch.float32 if _narrow(pair) else torch.float64
    x, y = (side.codes.to(exact).contiguous() for side in (a, w))
    if pair.split:
        high = (x * 2.0**-pair.split).trunc() * 2.0**pair.split
        dot = rounded_to_odd(_dot(high, y), _dot(x - high, y))
    else:
        dot = _dot(x, y).double()
    return (dot * (a.scales.unsqueeze(2) * w.scales.unsqueeze(1))).float()


def rounded_to_odd(a: Tensor, b: Tensor) -> Tensor:
    """``a + b`` in float64: where that is inexact, the neighbour whose last bit is odd.

    Rounding that to float32 rounds the exact sum once.

    >>> one, tiny = torch.ones((), dtype=torch.float64), torch.tensor(2.0**-60, dtype=torch.float64)
    >>> float(rounded_to_odd(one, tiny) - 1), float(rounded_to_odd(one, 0 * tiny) - 1)
    (2.220446049250313e-16, 0.0)
    """
    total = a + b
    part = total - a
    rest = (a - (total - part)) + (b - part)
    bits = total.view(torch.int64)
    step = torch.where((rest > 0) == (total > 0), 1, -1)
    inexact = (rest != 0) & (bits & 1 == 0)
    return torch.where(inexact, bits + step, bits).view(torch.float64)


def _dot(x: Tensor, y: Tensor) -> Tensor:
    """``x [groups, rows, block]`` by ``y [groups, outputs, block]``."""
    return (x[0] @ y[0].mT)[None] if x.shape[0] == 1 else x @ y.mT
