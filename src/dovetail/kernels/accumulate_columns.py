"""What is multiplied with what, one k after another: operands and products of all outputs."""

from __future__ import annotations

from collections.abc import Callable
from itertools import product
from typing import Any, NamedTuple

import torch
from torch import Tensor

from dovetail.kernels.accumulate import Products
from dovetail.kernels.geometry import Geometry
from dovetail.kernels.torch_kernels import pad_codes
from dovetail.multipliers import Multiplier

__all__ = ["Columns", "code_products", "columns"]


class Columns(NamedTuple):
    """Operands by k: ``first(ks)`` and ``second(ks)`` broadcast to ``[len(ks), *shape]``."""

    length: int
    shape: tuple[int, ...]
    first: Callable[[int, int], Tensor]
    second: Callable[[int, int], Tensor]


def columns(a: Tensor, w: Tensor, geometry: Geometry, pad: int = 0) -> Columns:
    """The operands of a convolution, or of ``a [..., M, K] @ w [..., K, N]``.

    >>> from dovetail.kernels.geometry import LINEAR
    >>> columns(torch.zeros(5, 3), torch.zeros(3, 2), LINEAR).shape
    (5, 2)
    """
    if geometry.spatial == 0:
        rows, cols = a.movedim(-1, 0).unsqueeze(-1), w.movedim(-2, 0).unsqueeze(-2)
        while rows.dim() < cols.dim():
            rows = rows.unsqueeze(1)
        while cols.dim() < rows.dim():
            cols = cols.unsqueeze(1)
        shape = tuple(torch.broadcast_shapes(rows.shape[1:], cols.shape[1:]))
        return Columns(a.shape[-1], shape, lambda i, j: rows[i:j], lambda i, j: cols[i:j])
    out = geometry.out_shape(a.shape, w.shape)
    groups, per_group = geometry.groups, w.shape[0] // geometry.groups
    image = pad_codes(a, geometry, pad)
    image = image.reshape(a.shape[0], groups, 1, w.shape[1], *image.shape[2:])
    places = list(product(range(w.shape[1]), *map(range, w.shape[2:])))
    weights = w.reshape(groups, per_group, -1).movedim(-1, 0)
    weights = weights[(..., *[None] * geometry.spatial)].unsqueeze(1)

    def first(start: int, stop: int) -> Tensor:
        return torch.stack([_pixels(image, place, geometry, out) for place in places[start:stop]])

    shape = (a.shape[0], groups, per_group, *out[2:])
    return Columns(len(places), shape, first, lambda i, j: weights[i:j])


def _pixels(
    image: Tensor, place: tuple[int, ...], geometry: Geometry, out: tuple[int, ...]
) -> Tensor:
    """The pixels that meet one weight in every output: ``[B, groups, 1, *out]``."""
    channel, *taps = place
    window: list[Any] = [
        slice(tap * d, tap * d + (size - 1) * s + 1, s)
        for tap, d, s, size in zip(taps, geometry.dilation, geometry.stride, out[2:], strict=True)
    ]
    index: tuple[Any, ...] = (..., *window)
    return image.select(3, channel)[index]


def code_products(
    a: Tensor, w: Tensor, mul: Multiplier, bound: int, geometry: Geometry, pad_code: int
) -> Products:
    """Every ``f(a, w)`` of a linear layer's or a convolution's codes."""
    second = w.mT if geometry.spatial == 0 else w
    cols = columns(torch.atleast_2d(a), second, geometry, pad_code)
    f = _product_of(mul, torch.int32 if bound < 2**31 else torch.int64)
    return Products(
        cols.length, cols.shape, bound, lambda i, j: f(cols.first(i, j), cols.second(i, j))
    )


def _product_of(mul: Multiplier, dtype: torch.dtype) -> Callable[[Tensor, Tensor], Tensor]:
    """``f`` on tensors that broadcast: multiplied, looked up, or evaluated."""
    if mul.bits is None:
        return lambda a, w: a.to(dtype) * w.to(dtype)
    if sum(mul.bits) > 16:
        return lambda a, w: torch.as_tensor(mul(a.cpu().numpy(), w.cpu().numpy()), device=a.device)
    table = mul.table()
    rows, width = table.shape

    def look_up(a: Tensor, w: Tensor) -> Tensor:
        index = (a.to(torch.int64) & (rows - 1)) * width + (w.to(torch.int64) & (width - 1))
        return table.to(a.device).flatten()[index]

    return look_up
