"""The native core's casts to integer formats: quantised and dequantised in one pass.

Registered with :func:`dovetail.formats.realise.register_integers`; the definition is
:mod:`dovetail.formats.quantization`.
"""

from __future__ import annotations

import ctypes
import math
from collections.abc import Sequence

import torch
from torch import Tensor

from dovetail.errors import DovetailError
from dovetail.formats.integer import IntFormat
from dovetail.formats.realise import register_integers
from dovetail.kernels import native
from dovetail.kernels.cast_structs import DTYPES, TensorStruct

__all__ = ["fake_quantize", "round_integers"]

_DTYPES = (torch.float32, torch.float16, torch.bfloat16)


@register_integers
def round_integers(
    x: Tensor,
    fmt: IntFormat,
    scale: Tensor,
    zero_point: Tensor,
    axis: int | None = None,
    out: Tensor | None = None,
) -> Tensor | None:
    """See :func:`dovetail.formats.realise.round_integers`; None for what the core has not.

    >>> x, half, zero = torch.tensor([0.3, 9.0]), torch.tensor(0.5), torch.tensor(0)
    >>> y = round_integers(x, IntFormat(4), half, zero)
    >>> y is None or y.tolist() == [0.5, 3.5]
    True
    """
    if x.device.type != "cpu" or x.dtype not in _DTYPES or not native.available():
        return None
    if scale.dim() < 2:
        if scale.dim() and axis is None:
            return None
        return fake_quantize(x, scale, zero_point, fmt.qmin, fmt.qmax, axis, out)
    # Axes along which the scale varies first: then it is one per row.
    order = sorted(range(x.dim()), key=lambda d: scale.shape[d] == 1)
    rows = sum(size != 1 for size in scale.shape)
    shape = [x.shape[d] for d in order]
    if any(scale.shape[d] != x.shape[d] for d in order[:rows]):
        return None
    turned = x.permute(order).reshape(scale.numel(), -1)
    y = fake_quantize(turned, scale.reshape(-1), zero_point.reshape(-1), fmt.qmin, fmt.qmax, 0)
    back = sorted(range(x.dim()), key=order.__getitem__)
    y = y.view(shape).permute(back)
    return y if out is None else out.copy_(y)


def fake_quantize(
    x: Tensor,
    scale: Tensor,
    zero_point: Tensor,
    qmin: int,
    qmax: int,
    axis: int | None = None,
    out: Tensor | None = None,
) -> Tensor:
    """Quantised and dequantised in one pass: ``(clamp(rint(x / s) + z) - z) * s``; no gradient.

    The bits of :func:`dovetail.formats.quantization.dequantize` of ``quantize``. ``x`` is float32,
    float16 or bfloat16 on the CPU; ``scale`` (float32) and ``zero_point`` are scalars, or hold one
    entry per index of ``axis``. ``out`` has ``x``'s shape and dtype and may be ``x``.

    >>> x, half, zero = torch.tensor([0.3, 9.0]), torch.tensor(0.5), torch.tensor(0)
    >>> not native.available() or fake_quantize(x, half, zero, -7, 7).tolist() == [0.5, 3.5]
    True
    """
    if x.device.type != "cpu" or x.dtype not in DTYPES or x.dtype == torch.float64:
        raise DovetailError(
            f"fake_quantize takes float32, float16 or bfloat16 on the CPU, not {x.dtype} on "
            f"{x.device}"
        )
    given = x.detach().contiguous()
    scales = scale.detach().float().reshape(-1).contiguous()
    zeros = zero_point.detach().to(torch.int32).reshape(-1).contiguous()
    sizes: Sequence[int] = (1, 1, given.numel())
    if axis is not None:
        axis = axis % x.dim()
        before, after = given.shape[:axis], given.shape[axis + 1 :]
        sizes = (math.prod(before), given.shape[axis], math.prod(after))
    channels = max(scales.numel(), zeros.numel())
    if channels not in (1, sizes[1]):
        raise DovetailError(f"{channels} scales for {sizes[1]} channels")
    scales, zeros = (t.expand(channels).contiguous() for t in (scales, zeros))
    result = out if out is not None and out.is_contiguous() else torch.empty_like(given)
    tensor = TensorStruct(given.data_ptr(), result.data_ptr(), *sizes, DTYPES[x.dtype], 0)
    native._check(
        native._loaded().dv_cast_affine(
            ctypes.byref(tensor),
            ctypes.c_int64(channels),
            ctypes.c_void_p(scales.data_ptr()),
            ctypes.c_void_p(zeros.data_ptr()),
            qmin,
            qmax,
        )
    )
    return result if out is None or result is out else out.copy_(result)
