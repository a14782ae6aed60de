"""The definition of an accumulated operation, as plain loops over Python numbers."""

from __future__ import annotations

from collections.abc import Callable
from itertools import product
from typing import Any

import numpy as np
import torch
from torch import Tensor

from dovetail.accumulators import Accumulator
from dovetail.accumulators.reference import Number, accumulate
from dovetail.kernels.geometry import Geometry
from dovetail.kernels.realisation import MacKernel
from dovetail.multipliers import Multiplier

__all__ = ["LoopedMac", "sums"]


def sums(
    a: Tensor,
    w: Tensor,
    f: Callable[[Any, Any], Number],
    acc: Accumulator,
    geometry: Geometry,
    pad: Number = 0,
) -> Tensor:
    """Each output's products ``f(a, w)``, in order of k, through ``acc``.

    ``a [..., K]`` and ``w [N, K]``, or ``[B, C, *spatial]`` and ``[O, C/groups, *kernel]``; padded
    pixels hold ``pad``. int64 for integer accumulators, float64 for floating-point ones.

    >>> from dovetail.accumulators import accumulator
    >>> from dovetail.kernels.geometry import LINEAR
    >>> a, w = torch.tensor([[100, 100, 1]]), torch.tensor([[1, 1, -100]])
    >>> sums(a, w, lambda a, w: a * w, accumulator("int8(saturate)"), LINEAR)
    tensor([[27]])
    """
    shape = geometry.out_shape(a.shape, w.shape)
    out = torch.zeros(shape, dtype=acc.dtype)
    for place in product(*map(range, shape)):
        if geometry.spatial == 0:
            pairs = list(zip(a[place[:-1]].tolist(), w[place[-1]].tolist(), strict=True))
        else:
            pairs = [*_window(a, w, geometry, place, pad)]
        out[place] = accumulate([f(x, y) for x, y in pairs], acc)
    return out


def _window(
    a: Tensor, w: Tensor, geometry: Geometry, place: tuple[int, ...], pad: Number
) -> list[tuple[Number, Number]]:
    """The operands of one output of a convolution, in the order of the flattened weight."""
    b, n, *pixel = place
    first = n // (w.shape[0] // geometry.groups) * w.shape[1]
    pairs = []
    for c, *taps in product(*map(range, w.shape[1:])):
        at = [
            p * s + t * d - low
            for p, s, t, d, (low, _) in zip(
                pixel, geometry.stride, taps, geometry.dilation, geometry.padding, strict=True
            )
        ]
        inside = all(0 <= i < size for i, size in zip(at, a.shape[2:], strict=True))
        pairs.append((a[(b, first + c, *at)].item() if inside else pad, w[(n, c, *taps)].item()))
    return pairs


class LoopedMac(MacKernel):
    """The definition itself as a kernel; what ``using("reference")`` runs."""

    name = "reference"

    def __init__(self, mul: Multiplier, acc: Accumulator) -> None:
        self.mul, self.acc = mul, acc

    def pack(self, w: Tensor, geometry: Geometry) -> Tensor:
        del geometry
        return w

    def sums(self, a: Tensor, packed: Tensor, geometry: Geometry, pad_code: int) -> Tensor:
        def f(x: int, y: int) -> int:
            return int(self.mul(np.int64(x), np.int64(y)))

        found = sums(a.cpu(), packed.cpu(), f, self.acc, geometry, pad_code)
        return found.to(a.device)
