"""``dv.cast``: a tensor rounded to a format, with a straight-through gradient."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

import torch
from torch import Tensor

from dovetail._eager import is_eager
from dovetail.errors import DovetailError
from dovetail.formats.base import Format
from dovetail.formats.grid import Grid, axis_of, grid_of, tensor_scale
from dovetail.formats.integer import IntFormat
from dovetail.formats.nan import refuse_nan
from dovetail.formats.operand import check_operand
from dovetail.formats.philox import seed_from
from dovetail.formats.realise import (
    Report,
    is_stochastic,
    round_by_range,
    round_groups,
    round_integers,
    round_values,
)
from dovetail.formats.registry import known
from dovetail.formats.shaped import Shaped

__all__ = [
    "Masked",
    "as_integer",
    "cast",
    "cast_by_range",
    "fake_quantize",
    "mask_of_cast",
    "straight_through",
]


def as_integer(fmt: Format) -> IntFormat:
    """``fmt`` if it is an integer format, else the error that says so."""
    if isinstance(fmt, IntFormat):
        return fmt
    raise DovetailError(f"format '{fmt}' has no integer codes; the nearest that has is 'int8'")


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
    strict: bool = False,
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

    ``scale`` is the real scale that a format stores beside its codes, where the caller has chosen
    it; else it follows from the range of ``x``. Integer formats take one with a ``zero_point``, for
    all or, as vectors, per index of ``channel``, or in the shape of the groups of a format that has
    them; ``nvfp4`` takes that of the tensor (a number). Other formats store none and refuse it. In
    integer formats NaN becomes zero; ``strict`` refuses it in formats that have none.

    The gradient is straight through, zero where the value was clipped (``clip=False``: one
    everywhere) or is not finite; also under ``torch.func``, in forward mode too.

    >>> cast(torch.tensor([0.3, 9.0]), "mxfp4"), cast(torch.tensor([-1.0, 0.3, 1.0]), "int3")
    (tensor([0., 8.]), tensor([-1.0000,  0.3333,  1.0000]))
    >>> cast(torch.tensor([0.3, 9.0]), "int4", scale=0.5)
    tensor([0.5000, 3.5000])
    """
    check_operand("cast", x, fmt, axis)
    if out is not None:
        _check_out(x, out)
    number = known(fmt)
    if strict:
        refuse_nan(x, number, "without strict=True they are cast as the format has it")
    direct = out if out is not None and _may_write(x, out) else None
    seed = seed_from(generator, x.device) if _draws(number) else None
    if isinstance(number, IntFormat):
        if scale is None and zero_point is None:
            y = cast_by_range(x, number, axis, channel, seed, clip=clip, out=direct)
        else:
            grid = grid_of(x, number, axis, scale, zero_point, channel)
            y = _on_grid(x, number, grid, seed, clip=clip, out=direct)
    else:
        whole = tensor_scale(x, number, scale, zero_point, channel)
        if isinstance(number, Shaped):
            y = number.cast_with(
                x, lambda part, inner: cast(part, inner, axis, generator=generator, clip=clip)
            )
        else:
            along = -1 if axis is None else axis
            y = straight_through(x, number, along, seed, whole, clip=clip, out=direct)
    return y if out is None or y is out else out.copy_(y)


def _draws(fmt: Format) -> bool:
    """Whether a cast draws a seed of its own: those inside another shape do so one by one."""
    return is_stochastic(fmt) and not isinstance(fmt, Shaped)


def _may_write(x: Tensor, out: Tensor) -> bool:
    """Whether a cast may write to ``out`` while it reads ``x``."""
    if not is_eager():
        return False
    if x.untyped_storage().data_ptr() != out.untyped_storage().data_ptr():
        return True
    return x.data_ptr() == out.data_ptr() and x.stride() == out.stride()


def straight_through(
    x: Tensor,
    fmt: Format,
    axis: int = -1,
    seed: Tensor | None = None,
    scale: Tensor | None = None,
    *,
    clip: bool = True,
    out: Tensor | None = None,
    report: Report | None = None,
) -> Tensor:
    """``x`` rounded to a format that is no integer format, with the straight-through gradient.

    ``seed``, ``scale`` and ``out`` are those of :func:`dovetail.formats.realise.round_values`; so
    is ``report``, with which there is no gradient.

    >>> x = torch.tensor([1.3, 9.0], requires_grad=True)
    >>> straight_through(x, known("fp4_e2m1fn")).sum().backward(); x.grad
    tensor([1., 0.])
    """
    return _followed(
        x, clip, lambda v, r: round_values(v, fmt, axis, seed, out, scale, r), report=report
    )


def fake_quantize(
    x: Tensor,
    fmt: IntFormat,
    scale: Tensor,
    zero_point: Tensor,
    axis: int | None = None,
    seed: Tensor | None = None,
    *,
    clip: bool = True,
    out: Tensor | None = None,
    report: Report | None = None,
) -> Tensor:
    """``x`` rounded to ``fmt``; the gradient passes straight through (if ``clip``, where inside).

    Arguments as for :func:`dovetail.formats.realise.round_integers`; no gradient with a
    ``report``.

    >>> x = torch.tensor([0.3, 9.0], requires_grad=True)
    >>> fake_quantize(x, IntFormat(4), torch.tensor(0.5), torch.tensor(0)).sum().backward()
    >>> x.grad
    tensor([1., 0.])
    """
    return _followed(
        x,
        clip,
        lambda v, r: round_integers(v, fmt, scale, zero_point, axis, out, r, seed),
        (scale,),
        report,
    )


def cast_by_range(
    x: Tensor,
    fmt: IntFormat,
    axis: int | None = None,
    channel: int | None = None,
    seed: Tensor | None = None,
    *,
    clip: bool = True,
    out: Tensor | None = None,
    report: Report | None = None,
) -> Tensor:
    """``x`` rounded to an integer format with the scales that its own values ask for.

    ``axis`` is where the groups of a format that has them run (None: the last; within one nothing
    clips unless an observer leaves values out), ``channel`` the axis of which each index has its
    scale (None: the format's own, else one for all). With a ``report`` there is no gradient.

    >>> cast_by_range(torch.tensor([1.0, 0.4, 100.0, 40.0]), IntFormat(2, group=2))
    tensor([  1.,   0., 100.,   0.])
    """
    place = axis_of(x, fmt, axis, channel)
    along, channel = (place, None) if fmt.group is not None else (None, place)
    clip = clip and (fmt.group is None or fmt.leaves_out)
    return _followed(
        x, clip, lambda v, r: round_by_range(v, fmt, along, channel, out, r, seed), report=report
    )


def _on_grid(
    x: Tensor, fmt: IntFormat, grid: Grid, seed: Tensor | None, *, clip: bool, out: Tensor | None
) -> Tensor:
    if fmt.group is None:
        return fake_quantize(x, fmt, *grid, seed, clip=clip, out=out)
    return _followed(x, clip, lambda v, r: round_groups(v, fmt, grid, out, r, seed), (grid.scale,))


Rounding = Callable[[Tensor, "Report | None"], Tensor]


def _followed(
    x: Tensor,
    clip: bool,
    rounded: Rounding,
    learned: tuple[Tensor, ...] = (),
    report: Report | None = None,
) -> Tensor:
    """``rounded(x)`` with the straight-through gradient, if someone may ask for it.

    It is one where the report says inside. Gradients to ``learned`` come from ``rounded`` itself.
    Who asks for the ``report`` gets no gradient.
    """
    if report is not None:
        return rounded(x.detach(), report)
    if not _is_followed(x):
        return rounded(x.detach(), None)
    if is_eager() and not any(t.requires_grad for t in learned):
        y: Tensor = _StraightThrough.apply(x, clip, rounded)  # type: ignore[no-untyped-call]
        return y
    fixed, report = x.detach(), Report(clip)
    q = rounded(fixed, report)
    assert report.inside is not None
    passed = torch.where(report.inside, x, fixed)
    # x + (q - x) is not bit exact; adding a difference that is exactly zero is.
    return q - torch.where(torch.isfinite(fixed), fixed - passed, torch.zeros_like(fixed))


class Masked(torch.autograd.Function):
    """A cast whose gradient, to its first argument of three, passes where a saved mask says."""

    @staticmethod
    def backward(ctx: Any, grad: Tensor) -> tuple[Tensor, None, None]:
        (inside,) = ctx.saved_tensors
        return torch.where(inside, grad, 0.0), None, None

    @staticmethod
    def jvp(ctx: Any, tangent: Tensor, *_: None) -> Tensor:
        (inside,) = ctx.saved_tensors
        return torch.where(inside, tangent, 0.0)


class _StraightThrough(Masked):
    """A cast whose mask comes out of the pass that rounds."""

    @staticmethod
    def forward(ctx: Any, x: Tensor, clip: bool, rounded: Rounding) -> Tensor:
        report = Report(clip)
        y = rounded(x.detach(), report)
        ctx.save_for_backward(report.inside)
        ctx.save_for_forward(report.inside)
        return y


def mask_of_cast(y: Tensor) -> Tensor | None:
    """Where the gradient passes through the cast that gave ``y``, if that was a single one.

    >>> x = torch.tensor([1.3, 9.0], requires_grad=True)
    >>> mask_of_cast(cast(x, "fp4_e2m1fn")), mask_of_cast(x * 2)
    (tensor([ True, False]), None)
    """
    if not isinstance(y.grad_fn, _StraightThrough._backward_cls):
        return None
    node: Any = y.grad_fn
    found: Tensor = node.saved_tensors[0]
    return found


def _is_followed(x: Tensor) -> bool:
    """Whether someone may ask for the gradient to ``x``."""
    recorded = x.requires_grad and torch.is_grad_enabled()
    return recorded or torch._C._are_functorch_transforms_active()


def _check_out(x: Tensor, out: Tensor) -> None:
    if out.shape != x.shape or out.dtype != x.dtype:
        raise DovetailError(
            f"out is {out.dtype} {tuple(out.shape)}, but the result is {x.dtype} {tuple(x.shape)}"
        )
    if torch.is_grad_enabled() and (x.requires_grad or out.requires_grad):
        raise DovetailError("out= records no gradient: cast within torch.no_grad(), or without out")
