"""Casts to integers with the scales that a tensor's own values ask for."""

from __future__ import annotations

from collections.abc import Callable

import torch
from torch import Tensor

from dovetail._eager import is_eager
from dovetail.formats.grid import Grid, grid_of, groups_of, own_range
from dovetail.formats.integer import IntFormat
from dovetail.formats.quantization import scale_zero_point
from dovetail.formats.realise.integers import in_torch, round_integers
from dovetail.formats.realise.report import Report
from dovetail.formats.realise.stochastic import words_of
from dovetail.formats.realise.whole import whole

__all__ = ["register_ranged", "round_by_range", "round_groups"]

Kernel = Callable[
    [
        Tensor,
        IntFormat,
        "int | None",
        "int | None",
        "Tensor | None",
        "Report | None",
        "Tensor | None",
    ],
    "Tensor | None",
]
_kernels: list[Kernel] = []


def register_ranged(kernel: Kernel) -> Kernel:
    """Decorator: a faster ``(x, fmt, axis, channel, out, report, seed) -> Tensor``, or None where
    it does not apply.

    It gets what :func:`round_by_range` gets, in eager mode only, the latest registered first, with
    axes from 0 on; exactly one of ``axis`` and (unless the scale is one for all) ``channel``.
    """
    _kernels.insert(0, kernel)
    return kernel


def round_by_range(
    x: Tensor,
    fmt: IntFormat,
    axis: int | None = None,
    channel: int | None = None,
    out: Tensor | None = None,
    report: Report | None = None,
    seed: Tensor | None = None,
) -> Tensor:
    """``x`` rounded to ``fmt`` with its own scales: of groups along ``axis``, else per index of
    ``channel`` or one for all. No gradient; ``out``, ``report`` and ``seed`` as in
    :func:`round_values`.

    >>> round_by_range(torch.tensor([1.0, 0.4, 100.0, 40.0]), IntFormat(2, group=2), 0)
    tensor([  1.,   0., 100.,   0.])
    """
    if is_eager() and x.numel() and not fmt.leaves_out:
        for kernel in _kernels:
            y = kernel(x, fmt, axis, channel, out, report, seed)
            if y is not None:
                return y
    elif x.numel() and not is_eager() and (form := whole("ranged")) is not None:
        return form(x, fmt, (axis, channel, seed), out, report)  # type: ignore[no-any-return]
    if fmt.group is not None:
        return round_groups(x, fmt, grid_of(x, fmt, axis), out, report, seed)
    ends = scale_zero_point(fmt, *own_range(x, fmt, channel))
    return round_integers(x, fmt, *ends, channel, out, report, seed)


def round_groups(
    x: Tensor,
    fmt: IntFormat,
    grid: Grid,
    out: Tensor | None,
    report: Report | None,
    seed: Tensor | None = None,
) -> Tensor:
    """``x`` rounded to ``fmt`` with a scale per group.

    >>> x, fmt = torch.tensor([1.0, 0.4, 100.0, 40.0]), IntFormat(2, group=2)
    >>> round_groups(x, fmt, grid_of(x, fmt, 0), None, None)
    tensor([  1.,   0., 100.,   0.])
    """
    if x.numel() == 0:
        if report is not None:
            report.fill(x, torch.isfinite)
        return x.clone()
    assert grid.axis is not None
    blocks = groups_of(x, fmt, grid.axis)
    scale, zero = (t.unsqueeze(grid.axis + 1) for t in (grid.scale, grid.zero_point))
    direct = None if out is None or blocks.padding else blocks.split(out)
    part = None if report is None else Report(report.clip)
    words, parts = words_of(x, fmt, seed), blocks.split(x)
    if words is None:
        y = round_integers(parts, fmt, scale, zero, None, direct, part)
    else:  # random bits belong to an element's place in the tensor, not in its group
        y = in_torch(parts, fmt, scale, zero, None, direct, part, blocks.split(words))
    if part is not None and report is not None and part.inside is not None:
        inside = blocks.join(part.inside)
        report.fill(x, lambda _: inside)
    if direct is not None and out is not None:
        return out
    y = blocks.join(y)
    return y if out is None else out.copy_(y)
