"""Products of two block formats in plain torch, on any device.

One matrix product per block whose sums are exact, whatever their order: integers below ``2**24`` in
float32 (below ``2**53`` in float64), times one power of two. Then one addition per block.
"""

from __future__ import annotations

from collections.abc import Iterator
from itertools import product

import torch
import torch.nn.functional as F
from torch import Tensor

from dovetail.formats.block import PowerScaled
from dovetail.kernels.block_codes import NAN_EXPONENT, Codes, bound, code_range, encode
from dovetail.kernels.geometry import Geometry

__all__ = ["block_mac"]


def block_mac(
    x: Tensor,
    w: Tensor,
    bias: Tensor | None,
    first: PowerScaled,
    second: PowerScaled,
    geometry: Geometry,
) -> Tensor:
    """See :func:`dovetail.kernels.block_reference.block_mac`; float32.

    >>> from dovetail.formats import format
    >>> from dovetail.kernels.geometry import LINEAR
    >>> fmt = format("bfp(m=8, block=2)")
    >>> block_mac(torch.tensor([[1.0, 2.0, 3.0]]), torch.ones(1, 3), None, fmt, fmt, LINEAR)
    tensor([[6.]])
    """
    shape = geometry.out_shape(x.shape, w.shape)
    groups, channels = geometry.groups, w.shape[1]
    total = x.new_zeros(groups, 0, 0, dtype=torch.float32)
    if 0 not in shape:
        rows = x.reshape(-1, channels)[:, None] if geometry.spatial == 0 else _pixels(x, groups)
        a = encode(rows, first)
        taps = encode(w.reshape(groups, w.shape[0] // groups, channels, -1).movedim(-1, 0), second)
        exact = torch.float32 if _narrow(first, second) else torch.float64
        near = exact == torch.float32 and not torch.compiler.is_compiling() and _near(a, taps)
        for tap, window in enumerate(_windows(a, geometry, w.shape[2:], shape[2:])):
            other = Codes(taps.codes[tap], taps.exponents[tap])
            total = _add_tap(total, window, other, exact, near)
    if geometry.spatial == 0:
        y = total.reshape(shape)
    else:  # [groups, B * pixels, outputs] to [B, groups * outputs, *pixels]
        y = total.reshape(groups, shape[0], *shape[2:], -1).movedim(-1, 1).movedim(2, 0)
        y = y.reshape(shape)
    if bias is not None:
        y = y + bias.float().reshape(-1, *[1] * geometry.spatial)
    return torch.where(y.isnan(), torch.nan, y)  # the one NaN, without sign or payload


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
        if used.numel() == 0:
            return True
        ends.append(torch.stack(torch.aminmax(used)).tolist())
    (low, high), (other_low, other_high) = ends
    small = min(low, other_low, low + other_low)
    return bool(small >= -126 and max(high, other_high, high + other_high) <= 103)


def _pixels(x: Tensor, groups: int) -> Tensor:
    """``[B, *spatial, groups, C / groups]``."""
    return x.unflatten(1, (groups, -1)).movedim((1, 2), (-2, -1))


def _windows(
    a: Codes, geometry: Geometry, kernel: torch.Size, out: tuple[int, ...]
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
        window = (slice(None),) + tuple(
            slice(t * d, t * d + (n - 1) * s + 1, s)
            for t, d, n, s in zip(tap, geometry.dilation, out, geometry.stride, strict=True)
        )
        yield Codes(
            *(t[window].flatten(0, geometry.spatial).movedim(1, 0) for t in (codes, exponents))
        )


def _add_tap(total: Tensor, a: Codes, w: Codes, exact: torch.dtype, near: bool) -> Tensor:
    """Add the terms of all blocks of one tap, one after the other."""
    if total.numel() == 0:
        total = total.new_zeros(a.codes.shape[0], a.codes.shape[1], w.codes.shape[1])
    scale_a, scale_w = a.scales(), w.scales()
    if near:  # the terms themselves, sums of values
        left = a.codes * scale_a.float().unsqueeze(-1)
        right = w.codes * scale_w.float().unsqueeze(-1)
        for b in range(left.shape[2]):
            total = total + left[:, :, b] @ right[:, :, b].mT
        return total
    left, right = a.codes.to(exact), w.codes.to(exact)
    for b in range(left.shape[2]):
        dot = left[:, :, b] @ right[:, :, b].mT
        term = dot.double() * (scale_a[:, :, b].unsqueeze(2) * scale_w[:, :, b].unsqueeze(1))
        total = total + term.float()
    return total
