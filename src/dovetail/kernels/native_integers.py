"""The native core's casts to integer formats: quantised and dequantised in one pass.

Registered with :func:`dovetail.formats.realise.register_integers`; the definition is
:mod:`dovetail.formats.quantization`.
"""

from __future__ import annotations

import torch
from torch import Tensor

from dovetail.formats.integer import IntFormat
from dovetail.formats.realise import register_integers
from dovetail.kernels import native
from dovetail.kernels.native_casts import fake_quantize

__all__ = ["round_integers"]

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
