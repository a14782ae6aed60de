"""``dv.cast``: a tensor rounded to a format, with a straight-through gradient."""

from __future__ import annotations

import torch
from torch import Tensor

from dovetail.errors import DovetailError
from dovetail.formats.base import Format
from dovetail.formats.blocks import blocks_of
from dovetail.formats.integer import IntFormat
from dovetail.formats.philox import seed_from
from dovetail.formats.quantization import (
    dequantize,
    observed_range,
    quantize,
    scale_zero_point,
    unclipped,
)
from dovetail.formats.realise import inside, is_stochastic, round_values
from dovetail.formats.registry import format as to_format
from dovetail.formats.shaped import Shaped

__all__ = ["as_integer", "cast", "cast_groups", "fake_quantize", "straight_through"]


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
    mask = unclipped(fixed, fmt, scale, zero_point, axis) if clip else None
    return _with_gradient(x, fixed, q, mask)


_DTYPES = (torch.float64, torch.float32, torch.float16, torch.bfloat16)


def cast(
    x: Tensor,
    fmt: str | Format,
    axis: int | None = None,
    out: Tensor | None = None,
    generator: torch.Generator | None = None,
    *,
    scale: Tensor | float | None = None,
    zero_point: Tensor | int | None = None,
    channel: int | None = None,
    clip: bool = True,
) -> Tensor:
    """``x`` with every value rounded to ``fmt``: same shape and dtype (float64/32/16, bfloat16).

    The result is the format's value chosen by its rounding mode from ``x`` exactly as it is, with
    one rounding; only where ``x``'s dtype cannot hold that value is it rounded once more, to the
    dtype. What NaN, infinities and -0 become, each format's class says. ``x`` may have any strides
    and be empty.

    ``axis`` is where the blocks of block formats, and the groups of integer formats, run (default:
    the format's own, else the last); other formats ignore it. ``out``, of ``x``'s shape and dtype,
    receives the result and is returned; it may be ``x`` itself. ``generator`` seeds stochastic
    rounding (None: torch's global generator); the random bits of an element depend on the seed and
    its row-major index alone.

    Integer formats take ``scale`` and ``zero_point``, per index of ``channel`` if they are vectors;
    without ``scale`` the range of ``x`` itself is used. With them NaN becomes zero.

    The gradient is straight through, zero where the value was clipped (``clip=False``: one
    everywhere) or is not finite; also under ``torch.func``, in forward mode too.

    >>> cast(torch.tensor([0.3, 9.0]), "mxfp4"), cast(torch.tensor([-1.0, 0.3, 1.0]), "int3")
    (tensor([0., 8.]), tensor([-1.0000,  0.3333,  1.0000]))
    >>> cast(torch.tensor([0.3, 9.0]), "int4", scale=0.5)
    tensor([0.5000, 3.5000])
    """
    if x.dtype not in _DTYPES:
        raise DovetailError(
            f"cast takes a floating-point tensor (float64, 32, 16 or bfloat16), not {x.dtype}: "
            "use x.float()"
        )
    if out is not None:
        _check_out(x, out)
    number = fmt if isinstance(fmt, Format) else to_format(fmt)
    if isinstance(number, Shaped) and scale is zero_point is channel is None:
        y = number.cast_with(
            x, lambda part, inner: cast(part, inner, axis, generator=generator, clip=clip)
        )
    elif isinstance(number, IntFormat):
        if number.group is not None and scale is None and channel is None:
            y = cast_groups(x, number, -1 if axis is None else axis)
        else:
            y = _cast_integer(x, number, scale, zero_point, channel, clip)
    else:
        for name, value in (("scale", scale), ("zero_point", zero_point), ("channel", channel)):
            if value is not None:
                raise DovetailError(
                    f"'{number}' finds its own scale; {name}= belongs to integer formats such as "
                    "'int8'"
                )
        seed = seed_from(generator, x.device) if is_stochastic(number) else None
        along = -1 if axis is None else axis
        if out is not None and _may_write(x, out):
            return round_values(x.detach(), number, along, seed, out)
        y = straight_through(x, number, along, seed, clip=clip)
    return y if out is None else out.copy_(y)


def _may_write(x: Tensor, out: Tensor) -> bool:
    """Whether a cast may write to ``out`` while it reads ``x``."""
    if torch._C._are_functorch_transforms_active() or torch.compiler.is_compiling():
        return False
    if x.untyped_storage().data_ptr() != out.untyped_storage().data_ptr():
        return True
    return x.data_ptr() == out.data_ptr() and x.stride() == out.stride()


def straight_through(
    x: Tensor, fmt: Format, axis: int = -1, seed: Tensor | None = None, *, clip: bool = True
) -> Tensor:
    """``x`` rounded to a format that is no integer format, with the straight-through gradient.

    >>> x = torch.tensor([1.3, 9.0], requires_grad=True)
    >>> straight_through(x, to_format("fp4_e2m1fn")).sum().backward(); x.grad
    tensor([1., 0.])
    """
    fixed = x.detach()
    q = round_values(fixed, fmt, axis, seed)
    if not x.requires_grad and not torch._C._are_functorch_transforms_active():
        return q
    return _with_gradient(x, fixed, q, inside(fixed, fmt, axis) if clip else None)


def _with_gradient(x: Tensor, fixed: Tensor, q: Tensor, mask: Tensor | None) -> Tensor:
    """``q`` with the gradient of ``x`` where ``mask`` is true (None: everywhere)."""
    passed = x if mask is None else torch.where(mask, x, fixed)
    # x + (q - x) is not bit exact; adding a difference that is exactly zero is.
    return q - torch.where(torch.isfinite(fixed), fixed - passed, torch.zeros_like(fixed))


def cast_groups(x: Tensor, fmt: IntFormat, axis: int = -1) -> Tensor:
    """``x`` rounded to an integer format with a scale per group; nothing clips.

    >>> cast_groups(torch.tensor([1.0, 0.4, 100.0, 40.0]), to_format("int2(group=2)"))
    tensor([  1.,   0., 100.,   0.])
    """
    if x.numel() == 0:
        return x.clone()
    assert fmt.group is not None
    blocks = blocks_of(x, fmt.group, axis, fmt)
    split = blocks.split(x.detach())
    finite = split.nan_to_num(0.0, 0.0, 0.0)
    low, high = torch.aminmax(finite, dim=blocks.axis + 1, keepdim=True)
    scale, zero = scale_zero_point(fmt, low, high)
    q = dequantize(quantize(split, fmt, scale, zero), scale, zero, None, x.dtype)
    q = blocks.join(q)
    if not x.requires_grad and not torch._C._are_functorch_transforms_active():
        return q
    return _with_gradient(x, x.detach(), q, None)


def _check_out(x: Tensor, out: Tensor) -> None:
    if out.shape != x.shape or out.dtype != x.dtype:
        raise DovetailError(
            f"out is {out.dtype} {tuple(out.shape)}, but the result is {x.dtype} {tuple(x.shape)}"
        )
    if torch.is_grad_enabled() and (x.requires_grad or out.requires_grad):
        raise DovetailError("out= records no gradient: cast within torch.no_grad(), or without out")


def _cast_integer(
    x: Tensor,
    fmt: IntFormat,
    scale: Tensor | float | None,
    zero_point: Tensor | int | None,
    channel: int | None,
    clip: bool,
) -> Tensor:
    axis = channel if channel is not None else fmt.channel
    if axis is not None and not -x.dim() <= axis < x.dim():
        raise DovetailError(f"channel={axis} is not an axis of a tensor with {x.dim()} dimensions")
    if scale is None:
        if zero_point is not None:
            raise DovetailError("a zero_point needs its scale")
        steps, zero = scale_zero_point(fmt, *observed_range(x.detach(), axis))
    else:
        steps = torch.as_tensor(scale, dtype=torch.float32, device=x.device)
        zero = torch.as_tensor(
            0 if zero_point is None else zero_point, dtype=torch.int32, device=x.device
        )
        if not bool((steps > 0).all()) or not bool(torch.isfinite(steps).all()):
            raise DovetailError(f"scale {scale} must be positive and finite")
    return fake_quantize(x, fmt, steps, zero, axis, clip=clip)
