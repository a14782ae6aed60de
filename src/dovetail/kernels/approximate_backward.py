"""The backward pass through the multiplier itself: ``grad=approx``.

As ApproxTrain (arXiv 2209.04161) does. The gradient is the first operand of every product, in the
arithmetic's ``gradient_format``: symmetric, one scale for the tensor, from its own largest
magnitude, rounded to nearest even. With ``f`` the multiplier, ``a`` and ``w`` the codes of input
and weight, ``s`` scales and ``z`` zero points, ``g`` the gradient by the output:

    ``by_input[m, k] = s_h * sum_n (f(h[m, n], w[n, k]) - z_w[n] h[m, n])``
    ``by_weight[n, k] = s_g s_x * sum_m (f(q[m, n], a[m, k]) - z_x q[m, n])``

``q`` are the codes of ``g``, ``h`` those of ``g s_w``: the scale of an output channel is in the
gradient before it is rounded, so the sum over outputs has one scale. Sums are exact integers: no
accumulator acts here. A convolution multiplies the pairs that its forward pass did, and no others;
a padded pixel has the code ``z_x``. The gradient by the bias is the exact sum. A NaN or infinity in
``g`` has no code, and makes both results NaN throughout.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from itertools import product as each
from math import prod

import torch
import torch.nn.functional as F
from torch import Tensor

from dovetail.arithmetic import Arithmetic
from dovetail.kernels.backward import Grads, flat_padding
from dovetail.kernels.cast_operands import CastOperand
from dovetail.kernels.geometry import LINEAR, Geometry
from dovetail.kernels.native_integers import codes_of as quantized
from dovetail.kernels.ranges import operand_range
from dovetail.kernels.sum_library import (
    backward_operands,
    backward_sums,
    input_sums,
    is_silent,
)

__all__ = ["ApproximateProduct", "conv", "linear", "matmul"]


@dataclass
class ApproximateProduct:
    """Two cast operands of a multiplier that the backward pass uses too."""

    first: CastOperand
    second: CastOperand
    dtype: torch.dtype
    rule: Arithmetic

    @property
    def wide(self) -> torch.dtype:
        """What sums are scaled in."""
        return torch.float64 if self.dtype == torch.float64 else torch.float32

    def codes_of(self, grad: Tensor) -> tuple[Tensor, Tensor]:
        """A gradient's codes and their scale; NaN where the gradient is not finite."""
        fmt = self.rule.gradient_format
        assert fmt is not None
        scale, zero = operand_range(grad, fmt, "input", None)
        codes = quantized(grad, fmt, scale, zero)
        finite = torch.isfinite(grad).all()
        return codes, torch.where(finite, scale.to(self.wide), torch.nan)

    def sums(self, grad: Tensor, operand: CastOperand, codes: Tensor, zero: Tensor) -> Tensor:
        """``[t, r, n]``: sums over k of ``f(grad[t, r, k], codes[t, n, k]) - zero grad[t, r, k]``.

        ``zero`` broadcasts over ``grad``.
        """
        total = backward_sums(grad, codes, self.rule.spelling, operand is self.second)
        if operand.fmt.affine:
            total = total - (grad.to(torch.int64) * zero).sum(-1, keepdim=True)
        return total


def linear(
    grad: Tensor, product: ApproximateProduct, bias: Tensor | None, needed: Sequence[bool]
) -> Grads:
    """See :func:`dovetail.kernels.backward.linear`."""
    rows = grad.to(product.wide).reshape(-1, grad.shape[-1])
    depth = product.first.x.shape[-1]
    return _layer(rows, product, (len(rows), depth), bias, LINEAR, needed)


def conv(
    grad: Tensor,
    product: ApproximateProduct,
    bias: Tensor | None,
    geometry: Geometry,
    needed: Sequence[bool],
) -> Grads:
    """See :func:`dovetail.kernels.backward.conv`."""
    shape = tuple(product.first.x.shape)
    return _layer(grad.to(product.wide), product, shape, bias, geometry, needed)


def matmul(grad: Tensor, product: ApproximateProduct, needed: Sequence[bool]) -> Grads:
    """See :func:`dovetail.kernels.backward.matmul`."""
    a, w = product.first, product.second
    grad = grad.to(product.wide)
    batch = grad.shape[:-2]

    def matrices(codes: Tensor) -> Tensor:
        rows, columns = codes.shape[-2:]
        return codes.expand(*batch, rows, columns).reshape(prod(batch), rows, columns)

    def summed(total: Tensor, shape: torch.Size) -> Tensor:
        return total.reshape(*batch, *total.shape[-2:]).sum_to_size(shape)

    gx = gw = None
    if needed[0]:
        codes, scale = product.codes_of(grad * w.scale.to(product.wide))
        total = product.sums(matrices(codes), w, matrices(w.codes), w.zero)
        gx = a.through((summed(total, a.x.shape).to(product.wide) * scale).to(product.dtype))
    if needed[1]:
        codes, scale = product.codes_of(grad)
        total = product.sums(matrices(codes).mT, a, matrices(a.codes).mT, a.zero)
        unit = scale * a.scale.to(product.wide)
        by_value = summed(total.mT, w.x.shape).to(product.wide) * unit
        gw = w.through(by_value.to(product.dtype))
    return gx, gw


def _layer(
    grad: Tensor,
    product: ApproximateProduct,
    shape: tuple[int, ...],
    bias: Tensor | None,
    geometry: Geometry,
    needed: Sequence[bool],
) -> Grads:
    """``grad [B, O, *out]`` of a layer of inputs of ``shape``, ``[B, C, *spatial]``."""
    a, w = product.first, product.second
    gx = gw = gb = None
    if needed[0]:
        by_value = _by_first(grad, product, shape, geometry).reshape(a.x.shape)
        gx = a.through(by_value.to(product.dtype))
    if needed[1]:
        gw = w.through(_by_second(grad, product, shape, geometry).to(product.dtype))
    if bias is not None and needed[2]:
        gb = grad.sum([d for d in range(grad.dim()) if d != 1]).to(bias.dtype)
    return gx, gw, gb


def _by_first(
    grad: Tensor, product: ApproximateProduct, shape: tuple[int, ...], geometry: Geometry
) -> Tensor:
    w, groups = product.second, geometry.groups
    per_output = [-1, *[1] * geometry.spatial]
    unit = w.scale.to(product.wide)
    codes, scale = product.codes_of(grad * (unit.view(per_output) if unit.dim() else unit))
    if geometry.spatial and not w.fmt.affine:
        found = input_sums(codes, w.codes, product.rule.spelling, geometry, shape[2:])
        if found is not None:
            return found.to(product.wide) * scale
    rows = _by_group(codes, groups)
    zero = w.zero.view(groups, 1, -1) if w.zero.dim() else w.zero
    weight, channels = w.codes, shape[1] // groups
    sizes = [n + low + high for n, (low, high) in zip(shape[2:], geometry.padding, strict=True)]
    total = grad.new_zeros((*shape[:2], *sizes), dtype=torch.int64)
    for tap in _taps(weight):
        at_tap = _at(weight, tap).reshape(groups, -1, channels).mT
        sums = product.sums(rows, w, at_tap, zero)
        part = sums.reshape(groups, shape[0], prod(grad.shape[2:]), channels)
        seen = _seen(total, tap, grad.shape[2:], geometry)
        seen += part.permute(1, 0, 3, 2).reshape(seen.shape)
    inner = F.pad(total, [-p for p in flat_padding(geometry)]) if geometry.spatial else total
    return inner.to(product.wide) * scale


def _by_second(
    grad: Tensor, product: ApproximateProduct, shape: tuple[int, ...], geometry: Geometry
) -> Tensor:
    a, w, groups = product.first, product.second, geometry.groups
    codes, scale = product.codes_of(grad)
    columns = _by_channel(codes, groups)
    image = a.codes.reshape(shape)
    if geometry.spatial and a.fmt.affine:
        image = F.pad(image.to(torch.int32) - a.zero, flat_padding(geometry)) + a.zero
    elif geometry.spatial:
        image = F.pad(image, flat_padding(geometry))
    spelling, device = product.rule.spelling, grad.device.type
    silent = not a.fmt.affine and is_silent(*backward_operands(spelling, False, device), 1)
    nothing = grad.new_zeros(w.x.shape[:2])
    by_tap = []
    for tap in _taps(w.x):
        if silent and not _meets(tap, shape[2:], grad.shape[2:], geometry):
            by_tap.append(nothing)
            continue
        seen = _by_channel(_seen(image, tap, grad.shape[2:], geometry), groups)
        sums = product.sums(columns, a, seen, a.zero)
        by_tap.append(sums.reshape(w.x.shape[:2]).to(product.wide))
    total = torch.stack(by_tap, 2).view(w.x.shape)
    return total * (scale * a.scale.to(product.wide))


def _meets(
    tap: tuple[int, ...], size: Sequence[int], out: Sequence[int], geometry: Geometry
) -> bool:
    """Whether any window has a pixel of the image, of ``size``, at this place, not only padding."""
    axes = zip(tap, geometry.dilation, geometry.stride, geometry.padding, out, size, strict=True)
    return all(
        any(0 <= o * step + t * d - low < n for o in range(count))
        for t, d, step, (low, _), count, n in axes
    )


def _taps(weight: Tensor) -> list[tuple[int, ...]]:
    """The places in a window; of a linear layer the one place without coordinates."""
    return list(each(*map(range, weight.shape[2:])))


def _at(weight: Tensor, tap: tuple[int, ...]) -> Tensor:
    """``[O, C / groups]``, a view: the weights at this place of the window."""
    for place in tap:
        weight = weight.select(2, place)
    return weight


def _seen(image: Tensor, tap: tuple[int, ...], out: torch.Size, geometry: Geometry) -> Tensor:
    """``[B, C, *out]``, a view: the pixels of a padded image that this place of a window meets."""
    moves = zip(tap, geometry.dilation, geometry.stride, out, strict=True)
    places = [slice(t * d, t * d + s * (n - 1) + 1, s) for t, d, s, n in moves]
    return image[(slice(None), slice(None), *places)]


def _by_group(image: Tensor, groups: int) -> Tensor:
    """``[B, G * n, *out]`` as matrices ``[G, B * pixels, n]``."""
    batch, channels, *out = image.shape
    by_pixel = image.reshape(batch, groups, channels // groups, prod(out)).permute(1, 0, 3, 2)
    return by_pixel.reshape(groups, batch * prod(out), channels // groups)


def _by_channel(image: Tensor, groups: int) -> Tensor:
    """The same, transposed: ``[G, n, B * pixels]``."""
    batch, channels, *out = image.shape
    each = channels // groups
    by_channel = image.reshape(batch, groups, each, prod(out)).permute(1, 2, 0, 3)
    return by_channel.reshape(groups, each, batch * prod(out))
