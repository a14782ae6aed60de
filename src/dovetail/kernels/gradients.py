"""What the backward pass of an emulated layer computes.

``ste``: with ``xq``, ``wq`` the operands as the casts left them, ``y = sum_k xq * wq`` is
differentiated exactly, and each cast passes its gradient straight through where it did not clip
(Bengio et al., arXiv 1308.3432; the clip mask as in PACT, arXiv 1805.06085).
``ste(unclipped)`` leaves the mask out. The multiplier's error is invisible to both.
"""

from __future__ import annotations

from collections.abc import Sequence

import torch
import torch.nn.functional as F
from torch import Tensor

from dovetail.arithmetic import Arithmetic
from dovetail.formats import IntFormat
from dovetail.formats.quantization import dequantize, quantize, unclipped
from dovetail.kernels.geometry import Geometry
from dovetail.kernels.ranges import operand_range

__all__ = ["Operand", "conv", "linear", "matmul"]

Ranges = Sequence[Tensor | None]
Grads = tuple[Tensor | None, ...]


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
    """Gradients of ``y [..., N]`` by ``x [..., K]``, ``weight [N, K]`` and ``bias [N]``."""
    a, w = _operands(x, weight, ranges, arithmetic)
    grad = grad.to(a.dtype)
    rows = grad.reshape(-1, grad.shape[-1])
    gx = a.through(grad @ w.value) if needed[0] else None
    gw = w.through(rows.mT @ a.value.reshape(-1, x.shape[-1])) if needed[1] else None
    gb = rows.sum(0).to(bias.dtype) if bias is not None and needed[2] else None
    return gx, gw, gb


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
    """Gradients of a convolution; a padded pixel has the value zero and takes no gradient."""
    a, w = _operands(x, weight, ranges, arithmetic)
    lows, highs = zip(*geometry.padding, strict=True)
    even = lows == highs
    value = a.value if even else F.pad(a.value, _flat(geometry))
    gx, gw, gb = torch.ops.aten.convolution_backward(
        grad.to(a.dtype).contiguous(),
        value,
        w.value,
        None if bias is None else list(bias.shape),
        list(geometry.stride),
        list(lows) if even else [0] * geometry.spatial,
        list(geometry.dilation),
        False,
        [0] * geometry.spatial,
        geometry.groups,
        [bool(needed[0]), bool(needed[1]), bias is not None and bool(needed[2])],
    )
    if gx is not None:
        gx = a.through(gx if even else F.pad(gx, [-p for p in _flat(geometry)]))
    gb = None if gb is None or bias is None else gb.to(bias.dtype)
    return gx, None if gw is None else w.through(gw), gb


def matmul(
    grad: Tensor, x: Tensor, weight: Tensor, ranges: Ranges, arithmetic: Arithmetic
) -> Grads:
    """Gradients of ``x [..., M, K] @ weight [..., K, N]`` with broadcast leading dimensions."""
    a, w = _operands(x, weight, ranges, arithmetic, second="second")
    grad = grad.to(a.dtype)
    gx = (grad @ w.value.mT).sum_to_size(x.shape)
    gw = (a.value.mT @ grad).sum_to_size(weight.shape)
    return a.through(gx), w.through(gw)


def _flat(geometry: Geometry) -> list[int]:
    return [p for pair in reversed(geometry.padding) for p in pair]
