"""Pools."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from typing import Any

import torch
import torch.nn.functional as F
from torch import Tensor

from dovetail.compiler.onnx.operators.windows import ends, torch_pads
from dovetail.compiler.onnx.registry import operator
from dovetail.errors import DovetailError

Ints = Sequence[int] | None
_MAX: dict[int, Callable[..., Any]] = {1: F.max_pool1d, 2: F.max_pool2d, 3: F.max_pool3d}
_AVERAGE: dict[int, Callable[..., Tensor]] = {1: F.avg_pool1d, 2: F.avg_pool2d, 3: F.avg_pool3d}
_WHOLE_MAX: dict[int, Callable[..., Any]] = {
    1: F.adaptive_max_pool1d,
    2: F.adaptive_max_pool2d,
    3: F.adaptive_max_pool3d,
}
_WHOLE = {1: F.adaptive_avg_pool1d, 2: F.adaptive_avg_pool2d, 3: F.adaptive_avg_pool3d}


def _window(
    x: Tensor, kernel: Sequence[int], auto_pad: str, dilations: Ints, pads: Ints, strides: Ints
) -> tuple[list[int], list[int], list[tuple[int, int]]]:
    n = len(kernel)
    if n not in _MAX:
        raise DovetailError(f"a pool in {n} dimensions; supported are 1 to 3")
    stride, dilation = list(strides or [1] * n), list(dilations or [1] * n)
    pairs = ends(
        x.shape[2:], kernel, auto_pad=auto_pad, pads=pads, strides=stride, dilations=dilation
    )
    return stride, dilation, pairs


def _filled(
    x: Tensor,
    kernel: Sequence[int],
    stride: Sequence[int],
    dilation: Sequence[int],
    pairs: Sequence[tuple[int, int]],
    ceil_mode: int,
) -> list[tuple[int, int]]:
    """The padding with what a last window that starts within the input needs to be whole."""
    whole: list[tuple[int, int]] = []
    for d, (before, after) in enumerate(pairs):
        span = dilation[d] * (kernel[d] - 1) + 1
        room = x.shape[2 + d] + before + after - span
        steps = room // stride[d]
        if ceil_mode and room % stride[d]:
            steps += (steps + 1) * stride[d] < x.shape[2 + d] + before
        whole.append((before, max(after, steps * stride[d] + span - x.shape[2 + d] - before)))
    return whole


@operator("MaxPool")
def max_pool(
    x: Tensor,
    *,
    auto_pad: str = "NOTSET",
    ceil_mode: int = 0,
    dilations: Ints = None,
    kernel_shape: Sequence[int],
    pads: Ints = None,
    storage_order: int = 0,
    strides: Ints = None,
    node: object,
) -> tuple[Tensor, ...]:
    """The largest of each window, and where it is in the flat input."""
    stride, dilation, pairs = _window(x, kernel_shape, auto_pad, dilations, pads, strides)
    kind = x.dtype
    if not x.is_floating_point():
        x = x.double() if kind in (torch.int32, torch.int64) else x.float()
    whole = _filled(x, kernel_shape, stride, dilation, pairs, ceil_mode)
    plain = all(a == b and 2 * a <= k for (a, b), k in zip(pairs, kernel_shape, strict=True))
    function = _MAX[len(kernel_shape)]
    if plain and (whole == pairs or not ceil_mode):
        padding = [a for a, _ in pairs]
        source, shift = x, [0] * len(padding)
    else:
        padding = [0] * len(pairs)
        source, shift = F.pad(x, torch_pads(whole), value=-torch.inf), [a for a, _ in whole]
    if getattr(node, "outputs", 1) == 1:
        return (function(source, kernel_shape, stride, padding, dilation).to(kind),)
    y, at = function(source, kernel_shape, stride, padding, dilation, return_indices=True)
    return y.to(kind), _global(at, source.shape[2:], x.shape, shift, storage_order)


def _global(
    at: Tensor,
    padded_sizes: Sequence[int],
    shape: Sequence[int],
    shift: Sequence[int],
    storage_order: int,
) -> Tensor:
    """Indices within one padded image to those of the whole tensor, rows or columns first."""
    places: list[Tensor] = []
    for size in reversed(padded_sizes):
        places.insert(0, at % size)
        at = at // size
    places = [p - s for p, s in zip(places, shift, strict=True)]
    sizes = list(shape[2:])
    order = range(len(sizes)) if not storage_order else reversed(range(len(sizes)))
    flat = torch.zeros_like(places[0])
    for d in order:
        flat = flat * sizes[d] + places[d]
    image = torch.arange(shape[0] * shape[1], device=flat.device)
    area = 1
    for size in sizes:
        area *= size
    return flat + (image * area).reshape(shape[0], shape[1], *[1] * len(sizes))


@operator("AveragePool")
def average_pool(
    x: Tensor,
    *,
    auto_pad: str = "NOTSET",
    ceil_mode: int = 0,
    count_include_pad: int = 0,
    dilations: Ints = None,
    kernel_shape: Sequence[int],
    pads: Ints = None,
    strides: Ints = None,
) -> Tensor:
    """The mean of each window, of what is in the input or of the padding too."""
    stride, dilation, pairs = _window(x, kernel_shape, auto_pad, dilations, pads, strides)
    n = len(kernel_shape)
    whole = _filled(x, kernel_shape, stride, dilation, pairs, ceil_mode)
    plain = all(a == b and 2 * a <= k for (a, b), k in zip(pairs, kernel_shape, strict=True))
    if plain and whole == pairs and all(d == 1 for d in dilation):
        padding = [a for a, _ in pairs]
        counted = bool(count_include_pad)
        return _AVERAGE[n](x, kernel_shape, stride, padding, False, counted)
    sums = _window_sums(x, kernel_shape, stride, dilation, whole)
    inside = torch.ones_like(x[:1, :1])
    if count_include_pad:  # the padding counts, what only completes the last window does not
        inside = F.pad(inside, torch_pads(pairs), value=1.0)
        left = [(0, w - p) for (_, w), (_, p) in zip(whole, pairs, strict=True)]
        return sums / _window_sums(inside, kernel_shape, stride, dilation, left)
    return sums / _window_sums(inside, kernel_shape, stride, dilation, whole)


def _window_sums(
    x: Tensor,
    kernel: Sequence[int],
    stride: Sequence[int],
    dilation: Sequence[int],
    pairs: Sequence[tuple[int, int]],
) -> Tensor:
    """The sum over each window, as a convolution with ones."""
    n = len(kernel)
    convolution = {1: torch.conv1d, 2: torch.conv2d, 3: torch.conv3d}[n]
    ones = torch.ones(1, 1, *kernel, dtype=x.dtype, device=x.device)
    x = F.pad(x, torch_pads(pairs))
    flat = x.reshape(-1, 1, *x.shape[2:])
    y = convolution(flat, ones, None, list(stride), [0] * n, list(dilation))
    return y.reshape(*x.shape[:2], *y.shape[2:])


@operator("LpPool")
def lp_pool(
    x: Tensor,
    *,
    auto_pad: str = "NOTSET",
    ceil_mode: int = 0,
    dilations: Ints = None,
    kernel_shape: Sequence[int],
    p: int = 2,
    pads: Ints = None,
    strides: Ints = None,
) -> Tensor:
    """The p-norm of each window."""
    stride, dilation, pairs = _window(x, kernel_shape, auto_pad, dilations, pads, strides)
    whole = _filled(x, kernel_shape, stride, dilation, pairs, ceil_mode)
    sums = _window_sums(x.abs() ** p, kernel_shape, stride, dilation, whole)
    return sums ** (1 / p)


@operator("GlobalMaxPool")
def global_max_pool(x: Tensor) -> Tensor:
    """The largest of each channel."""
    n = x.dim() - 2
    return _WHOLE_MAX[n](x, 1) if n in _WHOLE_MAX else x.amax(tuple(range(2, x.dim())), True)


@operator("GlobalAveragePool")
def global_average_pool(x: Tensor) -> Tensor:
    """The mean of each channel."""
    n = x.dim() - 2
    return _WHOLE[n](x, 1) if n in _WHOLE else x.mean(tuple(range(2, x.dim())), True)


@operator("GlobalLpPool", 2)
def global_lp_pool(x: Tensor, *, p: int = 2) -> Tensor:
    """The p-norm of each channel."""
    return (x.abs() ** p).sum(tuple(range(2, x.dim())), True) ** (1 / p)


@operator("MaxUnpool", 9, static=(2,))
def max_unpool(
    x: Tensor,
    places: Tensor,
    output_shape: Sequence[int] | None = None,
    *,
    kernel_shape: Sequence[int],
    pads: Ints = None,
    strides: Ints = None,
) -> Tensor:
    """Values put back where `MaxPool` found them, zeros between."""
    n = len(kernel_shape)
    stride, pad = strides or [1] * n, pads or [0] * 2 * n
    sizes = [
        (x.shape[2 + d] - 1) * stride[d] + kernel_shape[d] - pad[d] - pad[n + d] for d in range(n)
    ]
    inner = [*x.shape[:2], *sizes]
    flat = x.new_zeros(torch.Size(inner).numel())
    if output_shape is None:
        return flat.scatter(0, places.reshape(-1), x.reshape(-1)).reshape(inner)
    # The indices are of the tensor without what the larger output adds.
    y = flat.scatter(0, places.reshape(-1), x.reshape(-1)).reshape(inner)
    more = [end for d in reversed(range(n)) for end in (0, output_shape[2 + d] - sizes[d])]
    return F.pad(y, more)
