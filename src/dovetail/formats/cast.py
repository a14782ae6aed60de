"""``dv.cast``: a tensor rounded to a format, with a straight-through gradient."""

from __future__ import annotations

import torch
from torch import Tensor

from dovetail.errors import DovetailError
from dovetail.formats.base import Format
from dovetail.formats.integer import IntFormat
from dovetail.formats.quantization import (
    dequantize,
    observed_range,
    quantize,
    scale_zero_point,
    unclipped,
)
from dovetail.formats.registry import format as to_format

__all__ = ["as_integer", "cast", "fake_quantize"]


def as_integer(fmt: Format) -> IntFormat:
    """``fmt`` if it is an integer format, else the error that says so."""
    if isinstance(fmt, IntFormat):
        return fmt
    raise DovetailError(f"format '{fmt}' has no integer codes; the nearest that has is 'int8'")


def fake_quantize(
    x: Tensor,
    fmt: IntFormat,
    scale: Tensor,
    zero_point: Tensor,
    axis: int | None = None,
    *,
    clip: bool = True,
) -> Tensor:
    """``x`` rounded to ``fmt``; the gradient passes straight through (if ``clip``, where inside).

    >>> x = torch.tensor([0.3, 9.0], requires_grad=True)
    >>> fake_quantize(x, IntFormat(4), torch.tensor(0.5), torch.tensor(0)).sum().backward()
    >>> x.grad
    tensor([1., 0.])
    """
    fixed = x.detach()
    q = dequantize(quantize(fixed, fmt, scale, zero_point, axis), scale, zero_point, axis, x.dtype)
    if not x.requires_grad and not torch._C._are_functorch_transforms_active():
        return q
    passed = torch.where(unclipped(fixed, fmt, scale, zero_point, axis), x, fixed) if clip else x
    # x + (q - x) is not bit exact; adding a difference that is exactly zero is.
    return q - torch.where(torch.isfinite(fixed), fixed - passed, torch.zeros_like(fixed))


def cast(
    x: Tensor,
    fmt: str | Format,
    *,
    scale: Tensor | float | None = None,
    zero_point: Tensor | int | None = None,
    channel: int | None = None,
    clip: bool = True,
) -> Tensor:
    """``x`` with every value rounded to ``fmt``: same shape and floating dtype.

    Without ``scale`` the range of ``x`` itself is used, per index of ``channel`` if given. Rounding
    is to nearest, ties to even; NaN becomes zero, infinities saturate. The gradient is straight
    through, zero where clipped (``clip=False``: everywhere one).

    >>> cast(torch.tensor([-1.0, 0.3, 1.0]), "int3")
    tensor([-1.0000,  0.3333,  1.0000])
    >>> cast(torch.tensor([0.3, 9.0]), "int4", scale=0.5)
    tensor([0.5000, 3.5000])
    """
    if not x.is_floating_point():
        raise DovetailError(f"cast takes a floating-point tensor, not {x.dtype}: use x.float()")
    integer = as_integer(to_format(fmt))
    axis = channel if channel is not None else integer.channel
    if axis is not None and not -x.dim() <= axis < x.dim():
        raise DovetailError(f"channel={axis} is not an axis of a tensor with {x.dim()} dimensions")
    if scale is None:
        if zero_point is not None:
            raise DovetailError("a zero_point needs its scale")
        steps, zero = scale_zero_point(integer, *observed_range(x.detach(), axis))
    else:
        steps = torch.as_tensor(scale, dtype=torch.float32, device=x.device)
        zero = torch.as_tensor(
            0 if zero_point is None else zero_point, dtype=torch.int32, device=x.device
        )
        if not bool((steps > 0).all()) or not bool(torch.isfinite(steps).all()):
            raise DovetailError(f"scale {scale} must be positive and finite")
    return fake_quantize(x, integer, steps, zero, axis, clip=clip)
