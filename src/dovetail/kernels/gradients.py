"""What the backward pass of an emulated layer computes.

``ste``: with ``xq``, ``wq`` the operands as the casts left them, ``y = sum_k xq * wq`` is
differentiated exactly, and each cast passes its gradient straight through where it did not clip
(Bengio et al., arXiv 1308.3432; the clip mask as in PACT, arXiv 1805.06085).
``ste(unclipped)`` leaves the mask out. The multiplier's error is invisible to both.
"""

from __future__ import annotations

from collections.abc import Sequence

import torch
from torch import Tensor

from dovetail.arithmetic import Arithmetic
from dovetail.formats import IntFormat
from dovetail.formats.quantization import dequantize, quantize, unclipped
from dovetail.kernels import backward
from dovetail.kernels.backward import Grads
from dovetail.kernels.geometry import Geometry
from dovetail.kernels.ranges import operand_range

__all__ = ["Operand", "conv", "linear", "matmul"]

Ranges = Sequence[Tensor | None]


class Operand:
    """One operand of a product: its cast value, and how a gradient passes back through the cast.

    ``dtype`` is that of the product: under autocast the other operand may be wider.
    """

    def __init__(
        self,
        x: Tensor,
        fmt: IntFormat,
        slot: str,
        given: Ranges,
        clip: bool,
        dtype: torch.dtype,
    ) -> None:
        scale, zero = given
        pair = None if scale is None or zero is None else (scale, zero)
        self.x, self.fmt, self.dtype = x, fmt, dtype
        self.scale, self.zero = operand_range(x, fmt, slot, pair)
        self.axis = 0 if self.scale.dim() else None
        # A range taken from the operand itself clips nothing.
        self.clips = clip and pair is not None

    @property
    def value(self) -> Tensor:
        codes = quantize(self.x, self.fmt, self.scale, self.zero, self.axis)
        return dequantize(codes, self.scale, self.zero, self.axis, self.dtype)

    def through(self, grad: Tensor) -> Tensor:
        grad = grad.to(self.x.dtype)
        if not self.clips:
            return grad
        return grad * unclipped(self.x, self.fmt, self.scale, self.zero, self.axis)


def _operands(
    x: Tensor, w: Tensor, ranges: Ranges, arithmetic: Arithmetic, second: str = "weight"
) -> tuple[Operand, Operand]:
    assert isinstance(arithmetic.input, IntFormat)
    assert isinstance(arithmetic.weight, IntFormat)
    clip, dtype = arithmetic.grad == "ste", torch.promote_types(x.dtype, w.dtype)
    return (
        Operand(x, arithmetic.input, "input", ranges[:2], clip, dtype),
        Operand(w, arithmetic.weight, second, ranges[2:], clip, dtype),
    )


def linear(
    grad: Tensor,
    x: Tensor,
    weight: Tensor,
    bias: Tensor | None,
    ranges: Ranges,
    arithmetic: Arithmetic,
    needed: Sequence[bool],
) -> Grads:
    """See :func:`dovetail.kernels.backward.linear`."""
    return backward.linear(grad, *_operands(x, weight, ranges, arithmetic), bias, needed)


def conv(
    grad: Tensor,
    x: Tensor,
    weight: Tensor,
    bias: Tensor | None,
    ranges: Ranges,
    arithmetic: Arithmetic,
    geometry: Geometry,
    needed: Sequence[bool],
) -> Grads:
    """See :func:`dovetail.kernels.backward.conv`."""
    return backward.conv(grad, *_operands(x, weight, ranges, arithmetic), bias, geometry, needed)


def matmul(
    grad: Tensor, x: Tensor, weight: Tensor, ranges: Ranges, arithmetic: Arithmetic
) -> Grads:
    """See :func:`dovetail.kernels.backward.matmul`."""
    return backward.matmul(grad, *_operands(x, weight, ranges, arithmetic, second="second"))
