"""The native core's casts to integer formats: quantised and dequantised in one pass.

Registered with :func:`dovetail.formats.realise.register_integers`; the definition is
:mod:`dovetail.formats.quantization`.
"""

from __future__ import annotations

import ctypes
import math
from functools import lru_cache

import torch
from torch import Tensor

from dovetail._eager import is_eager
from dovetail.errors import DovetailError
from dovetail.formats.integer import IntFormat
from dovetail.formats.quantization import observed_range, quantize, scale_zero_point
from dovetail.formats.realise import Report, register_integers, register_ranged
from dovetail.formats.rounding import NEAREST_EVEN
from dovetail.kernels import native
from dovetail.kernels.cast_structs import (
    DTYPES,
    Integers,
    is_dense,
    mode_of,
    report_on,
    sizes_of,
    tensor_of,
)

__all__ = [
    "CODED",
    "SHORT",
    "codes_of",
    "fake_quantize",
    "integers_of",
    "look_up",
    "range_of",
    "round_by_range",
    "round_integers",
]

# Channels of up to so many values stay in the second cache between the two looks at them.
SHORT = 1 << 17
CODED = (torch.float32, torch.float16, torch.bfloat16)


def _takes(x: Tensor, fmt: IntFormat, seed: Tensor | None) -> bool:
    drawn = fmt.rounding.is_stochastic and seed is None
    return x.device.type == "cpu" and x.dtype in CODED and not drawn and native.available()


@register_integers
def round_integers(
    x: Tensor,
    fmt: IntFormat,
    scale: Tensor,
    zero_point: Tensor,
    axis: int | None = None,
    out: Tensor | None = None,
    report: Report | None = None,
    seed: Tensor | None = None,
) -> Tensor | None:
    """See :func:`dovetail.formats.realise.round_integers`; None for what the core has not.

    >>> x, half, zero = torch.tensor([0.3, 9.0]), torch.tensor(0.5), torch.tensor(0)
    >>> y = round_integers(x, IntFormat(4), half, zero)
    >>> y is None or y.tolist() == [0.5, 3.5]
    True
    """
    if not _takes(x, fmt, seed):
        return None
    if scale.dim() < 2:
        if scale.dim() and axis is None:
            return None
        return fake_quantize(x, fmt, scale, zero_point, axis, out, report, seed)
    if seed is not None:  # random bits follow the order of the tensor, which is changed here
        return None
    # Axes along which the scale varies first: then it is one per row.
    order = sorted(range(x.dim()), key=lambda d: scale.shape[d] == 1)
    rows = sum(size != 1 for size in scale.shape)
    shape = [x.shape[d] for d in order]
    if any(scale.shape[d] != x.shape[d] for d in order[:rows]):
        return None
    turned = x.permute(order).reshape(scale.numel(), -1)
    y = fake_quantize(turned, fmt, scale.reshape(-1), zero_point.reshape(-1), 0, None, report)
    back = sorted(range(x.dim()), key=order.__getitem__)
    y = y.view(shape).permute(back)
    if report is not None and report.inside is not None:
        report.inside = report.inside.view(shape).permute(back)
    return y if out is None else out.copy_(y)


def fake_quantize(
    x: Tensor,
    fmt: IntFormat,
    scale: Tensor,
    zero_point: Tensor,
    axis: int | None = None,
    out: Tensor | None = None,
    report: Report | None = None,
    seed: Tensor | None = None,
) -> Tensor:
    """Quantised and dequantised in one pass: ``(clamp(round(x / s) + z) - z) * s``; no gradient.

    The bits of :func:`dovetail.formats.quantization.dequantize` of ``quantize``. ``x`` is float32,
    float16 or bfloat16 on the CPU; ``scale`` (float32) and ``zero_point`` are scalars, or hold one
    entry per index of ``axis``. ``out`` has ``x``'s shape and dtype and may be ``x``;
    ``report`` is filled in the same pass. ``seed`` is that of stochastic rounding.

    >>> x, half, zero = torch.tensor([0.3, 9.0]), torch.tensor(0.5), torch.tensor(0)
    >>> not native.available() or fake_quantize(x, IntFormat(4), half, zero).tolist() == [0.5, 3.5]
    True
    """
    if x.device.type != "cpu" or x.dtype not in DTYPES or x.dtype == torch.float64:
        raise DovetailError(
            f"fake_quantize takes float32, float16 or bfloat16 on the CPU, not {x.dtype} on "
            f"{x.device}"
        )
    given = x.detach().contiguous()
    sizes = _sizes(given, axis)
    scales, zeros = _parameters(scale, zero_point, sizes[1])
    result = out if out is not None and out.is_contiguous() else torch.empty_like(given)
    tensor = tensor_of(given, result, sizes, _key(seed), report_on(report, given))
    native._check(
        native._loaded().dv_cast_affine(
            ctypes.byref(tensor),
            ctypes.c_int64(len(scales)),
            ctypes.c_void_p(scales.data_ptr()),
            ctypes.c_void_p(zeros.data_ptr()),
            ctypes.byref(integers_of(fmt)),
        )
    )
    return result if out is None or result is out else out.copy_(result)


def look_up(
    x: Tensor,
    fmt: IntFormat,
    scale: Tensor,
    zero_point: Tensor,
    axis: int | None,
    tables: Tensor,
    scaled: bool,
) -> Tensor:
    """``[len(tables), *x.shape]``: what each table (float32, by code less ``qmin``) holds for the
    codes of ``x`` (float32 on the CPU, rounded to nearest, ties to even), times the scale if
    ``scaled``.

    >>> x, half, zero = torch.tensor([0.3, 9.0]), torch.tensor(0.5), torch.tensor(0)
    >>> squares, fmt = torch.tensor([[1.0, 0.0, 1.0]]), IntFormat(2)
    >>> not native.available() or look_up(x, fmt, half, zero, None, squares, True).tolist()
    [[0.5, 0.5]]
    """
    given, tables = x.detach().contiguous(), tables.contiguous()
    sizes = _sizes(given, axis)
    scales, zeros = _parameters(scale, zero_point, sizes[1])
    result = torch.empty((len(tables), *x.shape), dtype=torch.float32)
    for table, out in zip(tables, result, strict=True):
        native._check(
            native._loaded().dv_cast_lookup(
                ctypes.byref(tensor_of(given, out, sizes)),
                ctypes.c_int64(len(scales)),
                ctypes.c_void_p(scales.data_ptr()),
                ctypes.c_void_p(zeros.data_ptr()),
                ctypes.byref(integers_of(fmt)),
                ctypes.c_void_p(table.data_ptr()),
                int(scaled),
            )
        )
    return result


def _parameters(scale: Tensor, zero_point: Tensor, length: int) -> tuple[Tensor, Tensor]:
    """Scales and zero points as the core takes them: one in all, or one for each channel."""
    scales = scale.detach().float().reshape(-1).contiguous()
    zeros = zero_point.detach().to(torch.int32).reshape(-1).contiguous()
    channels = max(scales.numel(), zeros.numel())
    if channels not in (1, length):
        raise DovetailError(f"{channels} scales for {length} channels")
    return scales.expand(channels).contiguous(), zeros.expand(channels).contiguous()


def _key(seed: Tensor | None) -> int:
    return 0 if seed is None else int(seed)


@lru_cache(maxsize=256)
def integers_of(fmt: IntFormat) -> Integers:
    """The format's codes as the core takes them.

    >>> integers_of(IntFormat(4)).qmax
    7
    """
    rounding = mode_of(fmt.rounding)
    return Integers(*rounding, fmt.qmin, fmt.qmax, fmt.affine, fmt.signed, fmt.po2)


def _sizes(x: Tensor, axis: int | None) -> tuple[int, int, int]:
    """A contiguous tensor as what lies before ``axis``, along it and after it; None: all after."""
    if axis is None:
        return 1, 1, x.numel()
    axis = axis % x.dim()
    return math.prod(x.shape[:axis]), x.shape[axis], math.prod(x.shape[axis + 1 :])


def range_of(x: Tensor, axis: int | None) -> tuple[Tensor, Tensor]:
    """:func:`dovetail.formats.quantization.observed_range` in one pass where the core can.

    >>> range_of(torch.tensor([[-1.0, 2.0], [0.5, torch.nan]]), 0)
    (tensor([-1.,  0.]), tensor([2.0000, 0.5000]))
    """
    if not is_eager() or not x.numel():
        return observed_range(x, axis)
    if x.device.type != "cpu" or x.dtype not in CODED or not native.available():
        return observed_range(x, axis)
    given = x.detach()
    given = given if axis is None and is_dense(given) else given.contiguous()
    sizes = _sizes(given, axis)
    low, high = torch.empty(2, sizes[1])
    native._check(
        native._loaded().dv_extremes(
            ctypes.byref(tensor_of(given, given, sizes)),
            ctypes.c_void_p(low.data_ptr()),
            ctypes.c_void_p(high.data_ptr()),
        )
    )
    shape = () if axis is None else (sizes[1],)
    return low.view(shape).to(x.dtype), high.view(shape).to(x.dtype)


def codes_of(
    x: Tensor, fmt: IntFormat, scale: Tensor, zero_point: Tensor, axis: int | None = None
) -> Tensor:
    """:func:`dovetail.formats.quantization.quantize` in one pass where the core can.

    >>> codes_of(torch.tensor([0.25, 9.0]), IntFormat(4), torch.tensor(0.5), torch.tensor(0))
    tensor([0, 7], dtype=torch.int8)
    """
    plain = x.device.type == "cpu" and x.dtype == torch.float32
    if not (plain and fmt.rounding == NEAREST_EVEN and is_eager() and native.available()):
        return quantize(x, fmt, scale, zero_point, axis)
    ends = fmt.qmin, fmt.qmax
    return native.quantize(x, scale, zero_point, *ends, axis, fmt.code_dtype)


@register_ranged
def round_by_range(
    x: Tensor,
    fmt: IntFormat,
    axis: int | None = None,
    channel: int | None = None,
    out: Tensor | None = None,
    report: Report | None = None,
    seed: Tensor | None = None,
) -> Tensor | None:
    """See :func:`dovetail.formats.realise.round_by_range`; None for what the core has not.

    >>> y = round_by_range(torch.tensor([1.0, 0.4, 100.0, 40.0]), IntFormat(2, group=2), 0)
    >>> y is None or y.tolist() == [1.0, 0.0, 100.0, 0.0]
    True
    """
    if not _takes(x, fmt, seed):
        return None
    x = x.detach()
    if fmt.group is not None and axis is not None:
        given = x if x.is_contiguous() or (seed is None and is_dense(x)) else x.contiguous()
        return _in_runs(given, fmt, sizes_of(given, axis), fmt.group, out, report, seed)
    sizes = _sizes(x, channel)
    if channel is not None and sizes[0] == 1 and 1 < sizes[2] <= SHORT:
        whole = (1, x.numel(), 1)
        return _in_runs(x.contiguous(), fmt, whole, sizes[2], out, report, seed)
    ends = scale_zero_point(fmt, *range_of(x, channel))
    return fake_quantize(x, fmt, *ends, channel, out, report, seed)


def _in_runs(
    x: Tensor,
    fmt: IntFormat,
    sizes: tuple[int, int, int],
    run: int,
    out: Tensor | None,
    report: Report | None,
    seed: Tensor | None,
) -> Tensor:
    """Runs of neighbours found and cast in one go."""
    result = torch.empty_like(x) if out is None or out.stride() != x.stride() else out
    native._check(
        native._loaded().dv_cast_integers(
            ctypes.byref(tensor_of(x, result, sizes, _key(seed), report_on(report, x))),
            ctypes.c_int64(run),
            ctypes.byref(integers_of(fmt)),
        )
    )
    return result if out is None or result is out else out.copy_(result)
