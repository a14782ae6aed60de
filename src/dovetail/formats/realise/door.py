"""The one door to casts: a registered kernel in eager mode, else the pure-torch form.

In eager mode a faster implementation, registered with `register_cast`, is taken where it says that
it can; while torch.compile or torch.export is tracing, the operations of this package are, which
fuse. Both are bit-equal to :mod:`dovetail.formats.reference`.
"""

from __future__ import annotations

from collections.abc import Callable

import torch
from torch import Tensor

from dovetail._eager import is_eager
from dovetail.formats.base import BlockFormat, ElementFormat, Format, Same
from dovetail.formats.bits import layout_of
from dovetail.formats.block import PowerScaled
from dovetail.formats.blocks import format_blocks
from dovetail.formats.realise.elements import round_elements
from dovetail.formats.realise.inside import inside
from dovetail.formats.realise.powers import round_power_scaled
from dovetail.formats.realise.ratios import round_scaled
from dovetail.formats.realise.report import Report
from dovetail.formats.realise.stochastic import words_of
from dovetail.formats.realise.whole import whole
from dovetail.formats.scaled import NVFP4, ScaledBlock

__all__ = ["in_torch", "register_cast", "round_values"]

Kernel = Callable[
    [Tensor, Format, int, "Tensor | None", "Tensor | None", "Tensor | None", "Report | None"],
    "Tensor | None",
]
_kernels: list[Kernel] = []


def register_cast(kernel: Kernel) -> Kernel:
    """Decorator: a faster ``(x, fmt, axis, seed, out, scale, report) -> Tensor``, or None where it
    does not apply.

    It gets what :func:`round_values` gets, in eager mode only, the latest registered first.
    """
    _kernels.insert(0, kernel)
    return kernel


def round_values(
    x: Tensor,
    fmt: Format,
    axis: int = -1,
    seed: Tensor | None = None,
    out: Tensor | None = None,
    scale: Tensor | None = None,
    report: Report | None = None,
) -> Tensor:
    """``x`` rounded to ``fmt``: a tensor of the same shape and dtype; no gradient.

    ``axis`` is where blocks run unless the format has its own; ``seed`` (int64 scalar tensor) is
    needed by stochastic rounding. ``x`` is floating point. The result is written to ``out`` if
    given: ``x`` itself, or memory that ``x`` does not share. ``scale`` is NVFP4's tensor scale
    (float32 scalar; None: that of ``x``). ``report`` is filled if given.

    >>> from dovetail.formats import format
    >>> round_values(torch.tensor([464.1, -1.03]), format("fp8_e4m3"))
    tensor([448., -1.])
    """
    if is_eager():
        for kernel in _kernels:
            y = kernel(x, fmt, axis, seed, out, scale, report)
            if y is not None:
                return y
    elif (form := whole("values")) is not None:
        return form(x, fmt, (axis, seed, scale), out, report)  # type: ignore[no-any-return]
    if report is not None:
        report.fill(x, lambda v: inside(v, fmt, axis, scale))
    y = in_torch(x, fmt, axis, seed, scale)
    return y if out is None else out.copy_(y)


def in_torch(
    x: Tensor,
    fmt: Format,
    axis: int = -1,
    seed: Tensor | None = None,
    scale: Tensor | None = None,
) -> Tensor:
    """:func:`round_values` by the operations of this package."""
    if isinstance(fmt, Same) or x.numel() == 0:
        return x.clone()
    words = words_of(x, fmt, seed)
    if isinstance(fmt, BlockFormat):
        y = _in_blocks(x, fmt, axis, words, scale)
        if x.dtype not in (torch.float32, torch.float64):
            top = torch.finfo(x.dtype).max
            y = y.clamp(-top, top)
        return y.to(x.dtype)
    assert isinstance(fmt, ElementFormat)
    layout = layout_of(x.dtype)
    return round_elements(x.to(layout.dtype), fmt, words).to(x.dtype)


def _in_blocks(
    x: Tensor, fmt: BlockFormat, axis: int, words: Tensor | None, scale: Tensor | None
) -> Tensor:
    """float32 (float64 for float64) values of a tensor rounded block by block."""
    blocks = format_blocks(x, fmt, axis)
    layout = layout_of(x.dtype)
    split = blocks.split(x.to(layout.dtype))
    noise = None if words is None else blocks.split(words)
    if isinstance(fmt, PowerScaled):
        y = round_power_scaled(split, fmt, blocks, layout, noise)
    else:
        assert isinstance(fmt, (ScaledBlock, NVFP4))
        y = round_scaled(split, fmt, blocks, layout, noise, scale)
    return blocks.join(y)
