"""The one door to casts to integer formats: a registered kernel in eager mode, else plain torch.

The definition is :func:`dovetail.formats.quantization.dequantize` of ``quantize``.
"""

from __future__ import annotations

from collections.abc import Callable

from torch import Tensor

from dovetail._eager import is_eager
from dovetail.formats.integer import IntFormat
from dovetail.formats.quantization import dequantize, quantize, unclipped
from dovetail.formats.realise.report import Report
from dovetail.formats.realise.stochastic import words_of
from dovetail.formats.realise.whole import whole

__all__ = ["in_torch", "register_integers", "round_integers"]

Kernel = Callable[
    [
        Tensor,
        IntFormat,
        Tensor,
        Tensor,
        "int | None",
        "Tensor | None",
        "Report | None",
        "Tensor | None",
    ],
    "Tensor | None",
]
_kernels: list[Kernel] = []


def register_integers(kernel: Kernel) -> Kernel:
    """Decorator: a faster ``(x, fmt, scale, zero_point, axis, out, report, seed) -> Tensor``, or
    None where it does not apply.

    It gets what :func:`round_integers` gets, in eager mode only, the latest registered first.
    """
    _kernels.insert(0, kernel)
    return kernel


def round_integers(
    x: Tensor,
    fmt: IntFormat,
    scale: Tensor,
    zero_point: Tensor,
    axis: int | None = None,
    out: Tensor | None = None,
    report: Report | None = None,
    seed: Tensor | None = None,
) -> Tensor:
    """``x`` quantised and dequantised: a tensor of the same shape and dtype; no gradient to ``x``.

    ``scale`` and ``zero_point`` are scalars, vectors along ``axis``, or broadcast against ``x``,
    which has as many dimensions. A scale that requires a gradient gets it. ``out``,
    ``report`` and ``seed`` as in :func:`dovetail.formats.realise.round_values`.

    >>> import torch
    >>> x, half, zero = torch.tensor([0.3, 9.0]), torch.tensor(0.5), torch.tensor(0)
    >>> round_integers(x, IntFormat(4), half, zero)
    tensor([0.5000, 3.5000])
    """
    if is_eager() and not scale.requires_grad:
        for kernel in _kernels:
            y = kernel(x, fmt, scale, zero_point, axis, out, report, seed)
            if y is not None:
                return y
    elif not scale.requires_grad and (form := whole("integers")) is not None:
        return form(x, fmt, (scale, zero_point, axis, seed), out, report)  # type: ignore[no-any-return]
    return in_torch(x, fmt, scale, zero_point, axis, out, report, words_of(x, fmt, seed))


def in_torch(
    x: Tensor,
    fmt: IntFormat,
    scale: Tensor,
    zero_point: Tensor,
    axis: int | None,
    out: Tensor | None,
    report: Report | None,
    words: Tensor | None,
) -> Tensor:
    """:func:`round_integers` by its definition, with the random words themselves."""
    if report is not None:
        report.fill(x, lambda v: unclipped(v, fmt, scale, zero_point, axis))
    codes = quantize(x, fmt, scale, zero_point, axis, words)
    y = dequantize(codes, scale, zero_point, axis, x.dtype)
    return y if out is None else out.copy_(y)
