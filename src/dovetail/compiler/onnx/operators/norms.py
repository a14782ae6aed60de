"""Normalisations."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

import torch
import torch.nn.functional as F
from torch import Tensor

from dovetail.compiler.onnx.registry import operator
from dovetail.errors import DovetailError


@operator("BatchNormalization", 7, weights=(1, 2), fixed=(3, 4))
def batch_norm(
    x: Tensor,
    scale: Tensor,
    bias: Tensor,
    mean: Tensor,
    variance: Tensor,
    *,
    epsilon: float = 1e-5,
    momentum: float = 0.9,
    spatial: int = 1,
    training_mode: int = 0,
    node: Any,
) -> tuple[Tensor, ...]:
    """By the running statistics, or with ``training_mode`` by the batch's."""
    if not spatial:
        raise DovetailError("spatial=0 (a statistic for each pixel) is not supported; 1 is")
    if not training_mode:
        y = F.batch_norm(
            x, mean.to(x.dtype), variance.to(x.dtype), scale.to(x.dtype), bias.to(x.dtype),
            eps=epsilon,
        )  # fmt: skip
        return (y,)
    y = F.batch_norm(x, None, None, scale.to(x.dtype), bias.to(x.dtype), True, eps=epsilon)
    axes = [d for d in range(x.dim()) if d != 1]
    now = x.to(mean.dtype).mean(axes), x.to(mean.dtype).var(axes, correction=0)
    before = (mean, variance)
    return (y, *[a * momentum + b * (1 - momentum) for a, b in zip(before, now, strict=True)])


@operator("InstanceNormalization", 6, weights=(1, 2))
def instance_norm(x: Tensor, scale: Tensor, bias: Tensor, *, epsilon: float = 1e-5) -> Tensor:
    """Each channel of each sample."""
    return F.instance_norm(x, weight=scale, bias=bias, eps=epsilon)


@operator("GroupNormalization", 18, weights=(1, 2))
def group_norm18(
    x: Tensor, scale: Tensor, bias: Tensor, *, epsilon: float = 1e-5, num_groups: int
) -> Tensor:
    """Scale and bias of each group."""
    each = x.shape[1] // num_groups
    return F.group_norm(
        x, num_groups, scale.repeat_interleave(each), bias.repeat_interleave(each), epsilon
    )


@operator("GroupNormalization", 21, weights=(1, 2))
def group_norm(
    x: Tensor,
    scale: Tensor,
    bias: Tensor,
    *,
    epsilon: float = 1e-5,
    num_groups: int,
    stash_type: int = 1,
) -> Tensor:
    """Scale and bias of each channel."""
    return F.group_norm(x, num_groups, scale, bias, epsilon)


@operator("LayerNormalization", 17, weights=(1, 2))
def layer_norm(
    x: Tensor,
    scale: Tensor,
    bias: Tensor | None = None,
    *,
    axis: int = -1,
    epsilon: float = 1e-5,
    stash_type: int = 1,
    node: Any,
) -> tuple[Tensor, ...]:
    """Over the axes from ``axis`` on; mean and inverse deviation where they are asked for."""
    sizes = list(x.shape[axis:] if axis < 0 else x.shape[axis % x.dim() :])
    if list(scale.shape) == sizes and (bias is None or list(bias.shape) == sizes):
        y = F.layer_norm(x, sizes, scale, bias, epsilon)
    else:
        y = F.layer_norm(x, sizes, eps=epsilon) * scale
        y = y if bias is None else y + bias
    if node.outputs == 1:
        return (y,)
    axes = list(range(-len(sizes), 0))
    wide = x.float() if stash_type == 1 else x
    mean, variance = wide.mean(axes, True), wide.var(axes, correction=0, keepdim=True)
    return y, mean, torch.rsqrt(variance + epsilon)


@operator("RMSNormalization", 23, weights=(1,))
def rms_norm(
    x: Tensor, scale: Tensor, *, axis: int = -1, epsilon: float = 1e-5, stash_type: int = 1
) -> Tensor:
    """Over the axes from ``axis`` on, without the mean."""
    sizes = list(x.shape[axis:] if axis < 0 else x.shape[axis % x.dim() :])
    if list(scale.shape) == sizes and scale.dtype == x.dtype:
        return F.rms_norm(x, sizes, scale, epsilon)
    return F.rms_norm(x, sizes, None, epsilon) * scale


@operator("LpNormalization")
def lp_normalisation(x: Tensor, *, axis: int = -1, p: int = 2) -> Tensor:
    """Divided by the p-norm along an axis; 0 stays 0."""
    norm = torch.linalg.vector_norm(x, p, axis, keepdim=True)
    return torch.where(norm == 0, torch.zeros_like(x), x / norm)


@operator("LRN")
def lrn(
    x: Tensor, *, alpha: float = 1e-4, beta: float = 0.75, bias: float = 1.0, size: int
) -> Tensor:
    """By the squares of neighbouring channels; the window's longer side is after."""
    before = (size - 1) // 2
    ends = [0, 0] * (x.dim() - 2) + [before, size - 1 - before]
    squares = F.pad(x * x, ends).unfold(1, size, 1).sum(-1)
    return x / (bias + alpha / size * squares) ** beta


@operator("MeanVarianceNormalization", 9)
def mean_variance(x: Tensor, *, axes: Sequence[int] = (0, 2, 3)) -> Tensor:
    """To mean 0 and variance 1 over the axes."""
    centred = x - x.mean(list(axes), True)
    return centred / ((centred * centred).mean(list(axes), True).sqrt() + 1e-9)


@operator("Dropout")
def dropout1(x: Tensor, *, ratio: float = 0.5, node: Any) -> tuple[Tensor, ...]:
    """As the module's mode says."""
    return _dropout(x, ratio, node.training, node.outputs)


@operator("Dropout", 12, static=(1, 2))
def dropout(
    x: Tensor,
    ratio: float | None = None,
    training_mode: bool | None = None,
    *,
    seed: int = 0,
    node: Any,
) -> tuple[Tensor, ...]:
    """In training, which the model or the module's mode says."""
    training = bool(training_mode) or node.training
    return _dropout(x, 0.5 if ratio is None else ratio, training, node.outputs)


def _dropout(x: Tensor, ratio: float, training: bool, outputs: int) -> tuple[Tensor, ...]:
    if outputs == 1:
        return (F.dropout(x, ratio, training),)
    if not training or ratio == 0:
        return x, torch.ones_like(x, dtype=torch.bool)
    mask = F.dropout(torch.ones_like(x), ratio)
    return x * mask, mask != 0
