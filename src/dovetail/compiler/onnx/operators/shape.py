"""Shapes: what is asked of them, and what changes them only."""

from __future__ import annotations

import math
from collections.abc import Sequence
from typing import Any

import torch
from torch import Tensor

from dovetail.compiler.onnx.registry import operator
from dovetail.errors import DovetailError


@operator("Shape")
def shape(x: Tensor, *, start: int = 0, end: int | None = None) -> Any:
    """As numbers, in a tuple of one output."""
    return (tuple(x.shape)[start:end],)


@operator("Size")
def size(x: Tensor) -> Any:
    """As a number."""
    return (x.numel(),)


@operator("Identity")
def identity(x: Any) -> Any:
    """Also of a sequence."""
    return x


@operator("Flatten")
def flatten(x: Tensor, *, axis: int = 1) -> Tensor:
    """To two axes."""
    axis = axis % x.dim() if axis < 0 else axis
    rows = math.prod(x.shape[:axis])
    return x.reshape(rows, math.prod(x.shape[axis:]))


@operator("Reshape", 5, static=(1,))
def reshape(x: Tensor, shape: Sequence[int], *, allowzero: int = 0) -> Tensor:
    """0 is the input's own size, unless ``allowzero``; -1 what is left."""
    if not allowzero:
        shape = [x.shape[d] if isinstance(n, int) and n == 0 else n for d, n in enumerate(shape)]
    return x.reshape(shape)


@operator("Transpose")
def transpose(x: Tensor, *, perm: Sequence[int] | None = None) -> Tensor:
    """Axes in the order given, or reversed."""
    return x.permute(*(perm if perm is not None else range(x.dim() - 1, -1, -1)))


@operator("Squeeze")
def squeeze1(x: Tensor, *, axes: Sequence[int] | None = None) -> Tensor:
    """Without axes of one element."""
    return squeeze(x, axes)


@operator("Squeeze", 13, static=(1,))
def squeeze(x: Tensor, axes: Sequence[int] | None = None) -> Tensor:
    """Without axes of one element."""
    if axes is None:
        return x.squeeze()
    for axis in axes:
        if x.shape[axis] != 1:
            raise DovetailError(f"axis {axis} of {tuple(x.shape)} has {x.shape[axis]} elements")
    return x.squeeze(tuple(axes))


@operator("Unsqueeze")
def unsqueeze1(x: Tensor, *, axes: Sequence[int]) -> Tensor:
    """With axes of one element."""
    return unsqueeze(x, axes)


@operator("Unsqueeze", 13, static=(1,))
def unsqueeze(x: Tensor, axes: Any) -> Tensor:
    """With axes of one element."""
    axes = axes if isinstance(axes, list) else [axes]
    rank = x.dim() + len(axes)
    for axis in sorted(axis % rank for axis in axes):
        x = x.unsqueeze(axis)
    return x


@operator("Expand", 8, static=(1,))
def expand(x: Tensor, shape: Sequence[int]) -> Tensor:
    """Broadcast with a shape, in both directions."""
    return x.expand(torch.broadcast_shapes(x.shape, tuple(shape)))


@operator("Tile", 6, static=(1,))
def tile(x: Tensor, repeats: Sequence[int]) -> Tensor:
    """As often as given along each axis."""
    return x.repeat(*repeats)


@operator("Concat", 4)
def concat(*inputs: Tensor, axis: int) -> Tensor:
    """Along an axis."""
    return torch.cat(inputs, axis)


@operator("Split", 2)
def split2(
    x: Tensor, *, axis: int = 0, split: Sequence[int] | None = None, node: Any
) -> tuple[Tensor, ...]:
    """Of the sizes given, or equal."""
    return split_(x, split, axis=axis, num_outputs=node.outputs, node=node)


@operator("Split", 13, static=(1,))
def split_(
    x: Tensor,
    split: Sequence[int] | None = None,
    *,
    axis: int = 0,
    num_outputs: int | None = None,
    node: Any,
) -> tuple[Tensor, ...]:
    """Of the sizes given, or equal but for the last."""
    if split is not None:
        return torch.split(x, list(split), axis)
    count = num_outputs or node.outputs
    return torch.split(x, max(-(-x.shape[axis] // count), 1), axis)


@operator("DepthToSpace")
def depth_to_space(x: Tensor, *, blocksize: int, mode: str = "DCR") -> Tensor:
    """Channels to blocks of pixels, block or channel first."""
    b, c, h, w = x.shape
    n = blocksize
    if mode == "CRD":
        return torch.nn.functional.pixel_shuffle(x, n)
    parts = x.reshape(b, n, n, c // n**2, h, w).permute(0, 3, 4, 1, 5, 2)
    return parts.reshape(b, c // n**2, h * n, w * n)


@operator("SpaceToDepth")
def space_to_depth(x: Tensor, *, blocksize: int, mode: str = "DCR") -> Tensor:
    """Blocks of pixels to channels."""
    b, c, h, w = x.shape
    n = blocksize
    parts = x.reshape(b, c, h // n, n, w // n, n)
    order = (0, 3, 5, 1, 2, 4) if mode == "DCR" else (0, 1, 3, 5, 2, 4)
    return parts.permute(*order).reshape(b, c * n**2, h // n, w // n)


@operator("Trilu", 14, static=(1,))
def trilu(x: Tensor, k: int | None = None, *, upper: int = 1) -> Tensor:
    """What is on and above a diagonal, or below."""
    diagonal = k or 0
    return torch.triu(x, diagonal) if upper else torch.tril(x, diagonal)


@operator("ReverseSequence", 10)
def reverse_sequence(
    x: Tensor, lengths: Tensor, *, batch_axis: int = 1, time_axis: int = 0
) -> Tensor:
    """The first of each row, as many as its length, in reverse."""
    moved = x.movedim((batch_axis, time_axis), (0, 1))
    times = torch.arange(moved.shape[1], device=x.device).unsqueeze(0)
    ends = lengths.unsqueeze(1)
    at = torch.where(times < ends, ends - 1 - times, times)
    at = at.reshape(*at.shape, *[1] * (x.dim() - 2)).expand_as(moved)
    return moved.gather(1, at).movedim((0, 1), (batch_axis, time_axis))


@operator("CenterCropPad", 18, static=(1,))
def center_crop_pad(
    x: Tensor, shape: Sequence[int], *, axes: Sequence[int] | None = None
) -> Tensor:
    """Cut, or filled with zeros, about the centre of each axis."""
    for axis, size in zip(axes if axes is not None else range(x.dim()), shape, strict=True):
        have = x.shape[axis]
        if size < have:
            x = x.narrow(axis, (have - size) // 2, size)
        elif size > have:
            before = (size - have) // 2
            pads = [0, 0] * (x.dim() - axis % x.dim() - 1) + [before, size - have - before]
            x = torch.nn.functional.pad(x, pads)
    return x
