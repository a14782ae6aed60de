"""Random tensors, from torch's generator: an ONNX ``seed`` makes each call the same."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from typing import Any

import torch
from torch import Tensor

from dovetail.compiler.onnx.registry import operator
from dovetail.compiler.onnx.types import dtype_of


def _drawn(
    draw: Callable[..., Tensor], shape: Sequence[int], dtype: torch.dtype, device: Any, seed: Any
) -> Tensor:
    generator = None
    if seed is not None:
        bits = torch.tensor(float(seed)).view(torch.int32).item()
        generator = torch.Generator(device).manual_seed(int(bits))
    return draw(tuple(shape), dtype=dtype, device=device, generator=generator)


@operator("RandomNormal", folds=False)
def normal(
    *,
    dtype: int = 1,
    mean: float = 0.0,
    scale: float = 1.0,
    seed: float | None = None,
    shape: Sequence[int],
    device: torch.device,
) -> Tensor:
    """Of a normal distribution."""
    return mean + scale * _drawn(torch.randn, shape, dtype_of(dtype), device, seed)


@operator("RandomNormalLike", folds=False)
def normal_like(
    x: Tensor,
    *,
    dtype: int | None = None,
    mean: float = 0.0,
    scale: float = 1.0,
    seed: float | None = None,
) -> Tensor:
    """Of a normal distribution, of the input's shape."""
    kind = x.dtype if dtype is None else dtype_of(dtype)
    return mean + scale * _drawn(torch.randn, x.shape, kind, x.device, seed)


@operator("RandomUniform", folds=False)
def uniform(
    *,
    dtype: int = 1,
    high: float = 1.0,
    low: float = 0.0,
    seed: float | None = None,
    shape: Sequence[int],
    device: torch.device,
) -> Tensor:
    """Between two numbers."""
    drawn = _drawn(torch.rand, shape, dtype_of(dtype), device, seed)
    return low + (high - low) * drawn


@operator("RandomUniformLike", folds=False)
def uniform_like(
    x: Tensor,
    *,
    dtype: int | None = None,
    high: float = 1.0,
    low: float = 0.0,
    seed: float | None = None,
) -> Tensor:
    """Between two numbers, of the input's shape."""
    kind = x.dtype if dtype is None else dtype_of(dtype)
    return low + (high - low) * _drawn(torch.rand, x.shape, kind, x.device, seed)


@operator("Bernoulli", 15, folds=False)
def bernoulli(x: Tensor, *, dtype: int | None = None, seed: float | None = None) -> Tensor:
    """1 as often as the input says."""
    drawn = _drawn(torch.rand, x.shape, torch.float32, x.device, seed)
    return (drawn < x).to(x.dtype if dtype is None else dtype_of(dtype))


@operator("Multinomial", 7, folds=False)
def multinomial(
    x: Tensor, *, dtype: int = 6, sample_size: int = 1, seed: float | None = None
) -> Tensor:
    """Classes as often as their logarithms of probability say."""
    drawn = _drawn(torch.rand, (x.shape[0], sample_size), torch.float32, x.device, seed)
    edges = torch.softmax(x.float(), 1).cumsum(1)
    return torch.searchsorted(edges, drawn).clamp(max=x.shape[1] - 1).to(dtype_of(dtype))
