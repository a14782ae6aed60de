"""The definition of a multiply-accumulate, as plain loops over Python integers."""

from __future__ import annotations

from itertools import product
from math import prod

import numpy as np
import torch
from torch import Tensor

from dovetail.kernels.geometry import Geometry
from dovetail.kernels.realisation import MacKernel, Operands, register_realisation
from dovetail.multipliers import Multiplier

__all__ = ["ReferenceMac", "sums"]


def sums(a: Tensor, w: Tensor, mul: Multiplier, geometry: Geometry, pad_code: int = 0) -> Tensor:
    """``y[..., n] = sum_k f(a[..., k], w[n, k])`` over a linear layer's or a convolution's window.

    Padded pixels are operands like any other, with the code ``pad_code``. The result is int64.

    >>> from dovetail.kernels.geometry import LINEAR
    >>> from dovetail.multipliers import multiplier
    >>> sums(torch.tensor([[1, 2]]), torch.tensor([[3, 4], [5, 6]]), multiplier("exact"), LINEAR)
    tensor([[11, 17]])
    """
    shape = geometry.out_shape(a.shape, w.shape)
    if geometry.spatial == 0:
        return _linear(a.reshape(prod(a.shape[:-1]), a.shape[-1]), w, mul).reshape(shape)
    out = torch.empty(shape, dtype=torch.int64)
    channels = w.shape[1]
    per_group = w.shape[0] // geometry.groups
    for b, n in product(range(shape[0]), range(shape[1])):
        first = n // per_group * channels
        for pixel in product(*map(range, shape[2:])):
            total = 0
            for c, tap in product(range(channels), product(*map(range, w.shape[2:]))):
                place = [
                    p * s + t * d - lo
                    for p, s, t, d, (lo, _) in zip(
                        pixel,
                        geometry.stride,
                        tap,
                        geometry.dilation,
                        geometry.padding,
                        strict=True,
                    )
                ]
                inside = all(0 <= i < size for i, size in zip(place, a.shape[2:], strict=True))
                code = int(a[(b, first + c, *place)]) if inside else pad_code
                total += int(mul(np.int64(code), np.int64(int(w[(n, c, *tap)]))))
            out[(b, n, *pixel)] = total
    return out


def _linear(a: Tensor, w: Tensor, mul: Multiplier) -> Tensor:
    out = torch.zeros(a.shape[0], w.shape[0], dtype=torch.int64)
    for m, n, k in product(range(a.shape[0]), range(w.shape[0]), range(a.shape[1])):
        out[m, n] += int(mul(np.int64(int(a[m, k])), np.int64(int(w[n, k]))))
    return out


@register_realisation("mac", when=lambda *_: True, cost=lambda *_: 1e6, name="reference")
class ReferenceMac(MacKernel):
    """The definition itself, offered as a realisation so that a whole model can run on it."""

    name = "reference"

    def __init__(self, mul: Multiplier, operands: Operands) -> None:
        del operands
        self.mul = mul

    def pack(self, w: Tensor, geometry: Geometry) -> Tensor:
        del geometry
        return w

    def sums(self, a: Tensor, packed: Tensor, geometry: Geometry, pad_code: int) -> Tensor:
        return sums(a.cpu(), packed.cpu(), self.mul, geometry, pad_code).to(a.device)
