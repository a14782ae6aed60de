"""The grid of an integer format on a tensor, and what a caller may give of a format's scales."""

from __future__ import annotations

from typing import NamedTuple

import torch
from torch import Tensor

from dovetail._eager import is_eager
from dovetail.errors import DovetailError
from dovetail.formats import observers
from dovetail.formats.base import Format
from dovetail.formats.blocks import Blocks, blocks_of
from dovetail.formats.integer import IntFormat
from dovetail.formats.quantization import extremes, observed_range, scale_zero_point
from dovetail.formats.scaled import NVFP4

__all__ = ["Grid", "axis_of", "given_scale", "grid_of", "groups_of", "own_range", "tensor_scale"]


class Grid(NamedTuple):
    """Scales (float32) and zero points (int32): one, one per index of ``axis``, or one per group.

    Those of groups have the tensor's shape with ``axis`` divided by the group size, rounded up.
    """

    scale: Tensor
    zero_point: Tensor
    axis: int | None


def grid_of(
    x: Tensor,
    fmt: IntFormat,
    axis: int | None = None,
    scale: Tensor | float | None = None,
    zero_point: Tensor | int | None = None,
    channel: int | None = None,
) -> Grid:
    """The scales and zero points that ``x`` is quantised with: the given ones, else its own.

    ``axis`` is where groups run (None: the last), ``channel`` the axis of scales given as a vector,
    or of those that are found (None: the format's own, else one scale for all).

    >>> from dovetail.formats import format
    >>> x = torch.tensor([1.0, 0.4, 100.0, 40.0])
    >>> grid_of(x, format("int2(group=2)"))
    Grid(scale=tensor([  1., 100.]), zero_point=tensor([0, 0], dtype=torch.int32), axis=0)
    """
    if scale is None and zero_point is not None:
        raise DovetailError("a zero_point needs its scale")
    channel = axis_of(x, fmt, axis, channel)
    if fmt.group is not None:
        assert channel is not None
        return _of_groups(x, fmt, channel, scale, zero_point)
    if scale is None:
        return Grid(*scale_zero_point(fmt, *own_range(x.detach(), fmt, channel)), channel)
    given = given_scale(scale, x), _zero_point(zero_point, fmt, x)
    steps, zero = torch.broadcast_tensors(*given)
    return Grid(steps, zero, channel)


def axis_of(x: Tensor, fmt: IntFormat, axis: int | None, channel: int | None) -> int | None:
    """Where scales differ, from 0 on: the axis of groups, else that of channels, or None.

    >>> axis_of(torch.zeros(2, 3), IntFormat(8), None, -1)
    1
    """
    if fmt.group is not None:
        if channel is not None:
            raise DovetailError(f"'{fmt}' has a scale per group: channel={channel} excludes it")
        return groups_of(x, fmt, -1 if axis is None else axis).axis
    channel = channel if channel is not None else fmt.channel
    if channel is None:
        return None
    if not -x.dim() <= channel < x.dim():
        raise DovetailError(
            f"channel={channel} is not an axis of a tensor with {x.dim()} dimensions"
        )
    return channel % x.dim()


def _of_groups(
    x: Tensor,
    fmt: IntFormat,
    axis: int,
    scale: Tensor | float | None,
    zero_point: Tensor | int | None,
) -> Grid:
    blocks = groups_of(x, fmt, axis)
    groups = -(-blocks.length // blocks.block)
    shape = (*x.shape[: blocks.axis], groups, *x.shape[blocks.axis + 1 :])
    if scale is not None:
        steps, zero = given_scale(scale, x), _zero_point(zero_point, fmt, x)
        for name, value in (("scale", steps), ("zero_point", zero)):
            if value.dim() and tuple(value.shape) != shape:
                raise DovetailError(
                    f"{name} has shape {tuple(value.shape)}, and '{fmt}' has {shape} groups along "
                    f"axis {blocks.axis}: give one number, or one per group"
                )
        return Grid(steps.expand(shape), zero.expand(shape), blocks.axis)
    if x.numel() == 0:
        return Grid(
            torch.ones(shape, device=x.device),
            torch.zeros(shape, dtype=torch.int32, device=x.device),
            blocks.axis,
        )
    parts = blocks.split(x.detach())
    if fmt.leaves_out:
        rows = parts.movedim(blocks.axis + 1, -1).flatten(0, -2)
        low, high = (end.view(shape) for end in observers.range_by(str(fmt.observer), fmt, rows))
    else:
        low, high = extremes(parts, (blocks.axis + 1,))
    return Grid(*scale_zero_point(fmt, low, high), blocks.axis)


def own_range(x: Tensor, fmt: IntFormat, axis: int | None) -> tuple[Tensor, Tensor]:
    """The range that ``x`` itself asks for, ``[]``, or ``[x.shape[axis]]``: its extremes, or what
    the format's observer makes of it.

    >>> own_range(torch.tensor([1.0, -3.0]), IntFormat(8), None)
    (tensor(-3.), tensor(1.))
    """
    if not fmt.leaves_out or not x.numel():
        return observed_range(x, axis)
    rows = x.reshape(1, -1) if axis is None else x.movedim(axis, 0).flatten(1)
    low, high = observers.range_by(str(fmt.observer), fmt, rows)
    return (low.squeeze(0), high.squeeze(0)) if axis is None else (low, high)


def groups_of(x: Tensor, fmt: IntFormat, axis: int) -> Blocks:
    """The runs of ``x`` along ``axis`` that share a scale.

    >>> groups_of(torch.zeros(5), IntFormat(4, group=2), 0).padding
    1
    """
    assert fmt.group is not None
    return blocks_of(x, fmt.group, axis, fmt)


def given_scale(scale: Tensor | float, x: Tensor) -> Tensor:
    """A scale that a caller gives, in float32 on ``x``'s device; refused unless positive, finite.

    (A traced graph cannot ask: there the values are taken as they are.)

    >>> given_scale(0.5, torch.zeros(3))
    tensor(0.5000)
    """
    try:
        steps = torch.as_tensor(scale, dtype=torch.float32, device=x.device)
    except (TypeError, ValueError):
        raise DovetailError(f"scale={scale!r} is no number, nor a tensor of them") from None
    if is_eager() and not bool(((steps > 0) & (steps < torch.inf)).all()):
        raise DovetailError(f"scale {scale} must be positive and finite")
    return steps


def _zero_point(zero_point: Tensor | int | None, fmt: IntFormat, x: Tensor) -> Tensor:
    try:
        zero = torch.as_tensor(
            0 if zero_point is None else zero_point, dtype=torch.int32, device=x.device
        )
    except (TypeError, ValueError):
        raise DovetailError(f"zero_point={zero_point!r} is no whole number") from None
    inside = (zero >= fmt.qmin) & (zero <= fmt.qmax)
    if zero_point is not None and is_eager() and not bool((inside & (zero == zero_point)).all()):
        raise DovetailError(
            f"zero_point {zero_point} is no code of '{fmt}', which has {fmt.qmin}..{fmt.qmax}"
        )
    return zero


def tensor_scale(
    x: Tensor,
    fmt: Format,
    scale: Tensor | float | None,
    zero_point: Tensor | int | None,
    channel: int | None,
) -> Tensor | None:
    """The scale that a caller gives a format other than an integer one: NVFP4's, of the tensor.

    ``2**-120 .. 2**117``: beyond, scales of blocks would leave float32.

    >>> tensor_scale(torch.zeros(3), NVFP4(), 0.5, None, None)
    tensor(0.5000)
    """
    for name, value in (("zero_point", zero_point), ("channel", channel)):
        if value is not None:
            raise DovetailError(f"{name}= belongs to integer formats such as 'int8', not '{fmt}'")
    if scale is None:
        return None
    if not isinstance(fmt, NVFP4):
        raise DovetailError(
            f"'{fmt}' finds its own scale; scale= belongs to formats that store a real one beside "
            "their codes: integers such as 'int8', and 'nvfp4'"
        )
    whole = given_scale(scale, x)
    if whole.dim():
        raise DovetailError(f"'{fmt}' has one scale for the tensor, not {tuple(whole.shape)}")
    if is_eager() and not 2.0**-120 <= float(whole) <= 2.0**117:
        raise DovetailError(f"scale {scale}: the tensor scale of '{fmt}' lies in 2**-120..2**117")
    return whole
