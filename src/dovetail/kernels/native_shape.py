"""Sizes of an op as the native core takes them, from tensors and a geometry."""

from __future__ import annotations

import ctypes
import math
from collections.abc import Sequence
from functools import lru_cache
from typing import Any

from torch import Tensor

from dovetail.errors import DovetailError
from dovetail.kernels import native
from dovetail.kernels.geometry import Geometry

__all__ = ["address", "packing_shape", "running_shape"]


def address(tensor: Tensor) -> ctypes.c_void_p:
    """Where a tensor's first element lies.

    >>> import torch
    >>> address(torch.zeros(1)).value is not None
    True
    """
    return ctypes.c_void_p(tensor.data_ptr())


def running_shape(
    a: Tensor, weight: tuple[int, ...], geometry: Geometry, rank: int = 0, lookups: int = 0
) -> native.Shape:
    """Of ``a [..., K]`` or ``[B, C, *spatial]`` against a weight of shape ``weight``.

    >>> import torch
    >>> from dovetail.kernels.geometry import LINEAR
    >>> running_shape(torch.zeros(2, 3, 5), (7, 5), LINEAR).batch
    6
    """
    shape = tuple(a.shape)
    if geometry.spatial:
        return _shape(shape[0], shape[1], shape[2:], weight, geometry, rank, lookups)
    return _shape(math.prod(shape[:-1]), shape[-1], (), weight, geometry, rank, lookups)


def packing_shape(
    weight: tuple[int, ...], geometry: Geometry, rank: int = 0, lookups: int = 0
) -> native.Shape:
    """Of the smallest input that has an output: for packing, only the weight's own sizes matter.

    >>> list(packing_shape((4, 2, 3), Geometry.conv(1, dilation=2)).size)
    [1, 1, 5]
    """
    spans = tuple(d * (k - 1) + 1 for d, k in zip(geometry.dilation, weight[2:], strict=True))
    return _shape(1, weight[1] * geometry.groups, spans, weight, geometry, rank, lookups)


@lru_cache(maxsize=1024)  # weights in training are packed anew at every step
def _shape(
    batch: int,
    channels: int,
    size: tuple[int, ...],
    weight: tuple[int, ...],
    geometry: Geometry,
    rank: int,
    lookups: int,
) -> native.Shape:
    def three(values: Sequence[int], rest: int) -> Any:
        return (ctypes.c_int64 * 3)(*[rest] * (3 - len(values)), *values)

    if geometry.spatial > 3:
        raise DovetailError(f"{geometry.spatial} spatial dimensions; the core handles 3")
    return native.Shape(
        *(batch, channels, weight[0], geometry.groups),
        *(three(size, 1), three(weight[2:], 1)),
        *(three(geometry.stride, 1), three(geometry.dilation, 1)),
        three([low for low, _ in geometry.padding], 0),
        three([high for _, high in geometry.padding], 0),
        int(geometry.spatial == 0),
        rank,
        lookups,
    )
