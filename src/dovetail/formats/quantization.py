"""The arithmetic of integer formats: ranges to scales, values to codes and back.

This is the reference. Every other realisation is tested equal to it, bit for bit.
"""

from __future__ import annotations

import math

import torch
from torch import Tensor

from dovetail._eager import is_eager
from dovetail.errors import DovetailError
from dovetail.formats.integer import IntFormat
from dovetail.formats.rounding import Rounding

__all__ = [
    "dequantize",
    "extremes",
    "observed_range",
    "quantize",
    "scale_zero_point",
    "to_integers",
    "unclipped",
]


def observed_range(x: Tensor, axis: int | None) -> tuple[Tensor, Tensor]:
    """Smallest and largest finite value of ``x``, per index of ``axis`` or in all.

    Shapes: ``[]`` or ``[x.shape[axis]]``, in ``x``'s dtype. NaN and infinities do not widen the
    range (they count as 0); an empty tensor has the range 0..0.

    >>> observed_range(torch.tensor([[-1.0, 2.0], [0.5, 3.0]]), 0)
    (tensor([-1.0000,  0.5000]), tensor([2., 3.]))
    """
    if x.numel() == 0:
        zero = x.new_zeros(() if axis is None else (x.shape[axis],))
        return zero, zero
    dims = tuple(d for d in range(x.dim()) if axis is None or d != axis % x.dim())
    return extremes(x, dims)


def extremes(x: Tensor, dims: tuple[int, ...]) -> tuple[Tensor, Tensor]:
    """Smallest and largest finite value over ``dims``, which go; NaN and infinities count as 0.

    >>> extremes(torch.tensor([[-1.0, torch.nan], [0.5, 3.0]]), (1,))
    (tensor([-1.0000,  0.5000]), tensor([0., 3.]))
    """
    if is_eager() and x.device.type == "cpu":
        # NaN and infinities show in the result: where there are none, one pass less does.
        low, high = _reduced(x, dims)
        if bool((torch.isfinite(low) & torch.isfinite(high)).all()):
            return low, high
    return _reduced(x.nan_to_num(0.0, 0.0, 0.0), dims)


def _reduced(x: Tensor, dims: tuple[int, ...]) -> tuple[Tensor, Tensor]:
    if not dims:  # one value per index: nothing to reduce, where no axes would mean all axes
        return x, x
    if len(dims) == x.dim():
        low, high = torch.aminmax(x)
        return low, high
    return torch.amin(x, dims), torch.amax(x, dims)


def scale_zero_point(fmt: IntFormat, low: Tensor, high: Tensor) -> tuple[Tensor, Tensor]:
    """Scale (float32) and zero point (int32) with which ``fmt`` covers ``low..high``.

    Symmetric: ``max(|low|, |high|) / qmax``. Affine: ``(high - low) / (qmax - qmin)`` over the
    range widened to hold 0, the zero point rounded half to even (ONNX QuantizeLinear). An all-zero
    range has scale 1; a scale never falls below the smallest normal float32, nor is it so large
    that a code times it overflows float32 (what lies beyond then saturates).

    >>> scale_zero_point(IntFormat(8), torch.tensor(-2.54), torch.tensor(1.0))
    (tensor(0.0200), tensor(0, dtype=torch.int32))
    """
    limit, span = (_LARGEST / 2, fmt.qmax - fmt.qmin) if fmt.affine else (_LARGEST, fmt.qmax)
    low = low.clamp(max=0.0).float().clamp(min=-limit)
    high = high.clamp(min=0.0).float().clamp(max=limit)
    size = high - low if fmt.affine else torch.maximum(-low, high) if fmt.signed else high
    scale = size / span
    scale = torch.where(scale == 0, torch.ones_like(scale), scale)
    widest = _LARGEST * (1 - 2.0**-22) / span
    scale = scale.clamp(torch.finfo(torch.float32).tiny, widest)
    if fmt.po2:
        mantissa, exponent = torch.frexp(scale)
        exponent = torch.where(mantissa == 0.5, exponent - 1, exponent)
        exponent = exponent.clamp(max=math.frexp(widest)[1] - 1)
        scale = torch.ldexp(torch.ones_like(scale), exponent)
    if not fmt.affine:
        return scale, torch.zeros_like(scale, dtype=torch.int32)
    zero = torch.round(fmt.qmin - low / scale).nan_to_num(0.0)
    return scale, zero.clamp(fmt.qmin, fmt.qmax).to(torch.int32)


def quantize(
    x: Tensor,
    fmt: IntFormat,
    scale: Tensor,
    zero_point: Tensor,
    axis: int | None = None,
    words: Tensor | None = None,
) -> Tensor:
    """Codes ``clamp(round(x / scale) + zero_point, qmin, qmax)`` in ``fmt.code_dtype``.

    ``scale`` and ``zero_point`` are ``[]`` or ``[x.shape[axis]]``. The division is IEEE, in float32
    (float64 for float64 input), and its quotient is rounded to an integer as ``fmt.rounding`` says;
    ``words`` are the random ones that stochastic rounding needs (32 bits each, of ``x``'s shape).
    NaN becomes the zero point, infinities saturate. No gradient.

    >>> quantize(torch.tensor([0.25, 0.75, 9.0]), IntFormat(4), torch.tensor(0.5), torch.tensor(0))
    tensor([0, 2, 7], dtype=torch.int8)
    """
    wide = x.detach()
    wide = wide if wide.dtype == torch.float64 else wide.float()
    quotient = (wide / _along(scale, x.dim(), axis)).nan_to_num(0.0, _HUGE, -_HUGE)
    steps = to_integers(quotient, fmt.rounding, words)
    codes = (steps + _along(zero_point, x.dim(), axis)).clamp(fmt.qmin, fmt.qmax)
    return codes.to(fmt.code_dtype)


def to_integers(x: Tensor, mode: Rounding, words: Tensor | None = None) -> Tensor:
    """Finite float32 or float64 numbers, each rounded to an integer, in the same dtype.

    >>> to_integers(torch.tensor([-1.5, 0.5, 2.25]), Rounding("ToOdd"))
    tensor([-1.,  1.,  3.])
    """
    name = mode.name
    if name == "NearestTiesToEven":
        return torch.round(x)
    if name in ("TowardPositive", "TowardNegative"):
        return torch.ceil(x) if name == "TowardPositive" else torch.floor(x)
    inner = torch.trunc(x)
    if name == "TowardZero":
        return inner
    rest = (x - inner).abs()  # exact: of less than one, and no finer than x
    if name == "NearestTiesToAway":
        outward = rest >= 0.5
    elif name == "ToOdd":
        outward = (rest > 0) & (torch.fmod(inner, 2) == 0)
    else:
        if words is None:
            raise DovetailError(f"{mode} draws random bits, and needs a seed for them")
        one = 1 << (mode.bits + 1)
        share = torch.floor(rest * one).to(torch.int64)
        outward = share + 2 * (words >> (32 - mode.bits)) + 1 >= one
    return torch.where(outward, inner + torch.sign(x), inner)


def dequantize(
    codes: Tensor,
    scale: Tensor,
    zero_point: Tensor,
    axis: int | None = None,
    dtype: torch.dtype = torch.float32,
) -> Tensor:
    """``(codes - zero_point) * scale``, computed in float32 and rounded once to ``dtype``.

    >>> dequantize(torch.tensor([0, 2, 7]), torch.tensor(0.5), torch.tensor(0))
    tensor([0.0000, 1.0000, 3.5000])
    """
    steps = codes.to(torch.int32) - _along(zero_point, codes.dim(), axis)
    wide = torch.float64 if dtype == torch.float64 else torch.float32
    return (steps.to(wide) * _along(scale, codes.dim(), axis)).to(dtype)


def unclipped(
    x: Tensor, fmt: IntFormat, scale: Tensor, zero_point: Tensor, axis: int | None = None
) -> Tensor:
    """Where rounding ``x`` to nearest stays within the codes: the straight-through gradient's mask.

    >>> unclipped(torch.tensor([0.1, 99.0]), IntFormat(4), torch.tensor(0.5), torch.tensor(0))
    tensor([ True, False])
    """
    wide = x if x.dtype == torch.float64 else x.float()
    steps = torch.round(wide / _along(scale, x.dim(), axis)) + _along(zero_point, x.dim(), axis)
    return (steps >= fmt.qmin) & (steps <= fmt.qmax)


_LARGEST = torch.finfo(torch.float32).max
_HUGE = 2.0**30  # beyond every code, yet exact in float32 after a zero point is added


def _along(parameter: Tensor, dims: int, axis: int | None) -> Tensor:
    """``parameter`` shaped to broadcast along ``axis`` of a tensor with ``dims`` dimensions.

    One with as many dimensions as the tensor is shaped so already.
    """
    if parameter.dim() == 0 or (axis is None and parameter.dim() == dims > 1):
        return parameter
    if axis is None:
        raise DovetailError(
            f"a scale of shape {tuple(parameter.shape)} needs the axis (channel=) it belongs to"
        )
    shape = [1] * dims
    shape[axis] = -1
    return parameter.view(shape)
