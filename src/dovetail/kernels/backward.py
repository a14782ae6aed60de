"""The backward pass of products whose operands were cast.

``y = sum_k xq * wq``, with ``xq`` and ``wq`` the operands as the casts left them, is differentiated
exactly; how a gradient passes back through a cast is the operand's own affair.
"""

from __future__ import annotations

from collections.abc import Sequence
from typing import Protocol

import torch
import torch.nn.functional as F
from torch import Tensor

from dovetail.kernels.geometry import Geometry

__all__ = ["Grads", "Operand", "conv", "linear", "matmul"]

Grads = tuple[Tensor | None, ...]


class Operand(Protocol):
    """One operand of a product. ``dtype`` is that of the product: under autocast the other operand
    may be wider."""

    x: Tensor
    dtype: torch.dtype

    @property
    def value(self) -> Tensor:
        """What the cast left, in the product's dtype."""

    def through(self, grad: Tensor) -> Tensor:
        """The gradient by ``x``, given that by :attr:`value`."""


def linear(
    grad: Tensor, a: Operand, w: Operand, bias: Tensor | None, needed: Sequence[bool]
) -> Grads:
    """Gradients of ``y [..., N]`` by ``x [..., K]``, ``weight [N, K]`` and ``bias [N]``."""
    grad = grad.to(a.dtype)
    rows = grad.reshape(-1, grad.shape[-1])
    gx = a.through(grad @ w.value) if needed[0] else None
    gw = w.through(rows.mT @ a.value.reshape(-1, a.x.shape[-1])) if needed[1] else None
    gb = rows.sum(0).to(bias.dtype) if bias is not None and needed[2] else None
    return gx, gw, gb


def conv(
    grad: Tensor,
    a: Operand,
    w: Operand,
    bias: Tensor | None,
    geometry: Geometry,
    needed: Sequence[bool],
) -> Grads:
    """Gradients of a convolution; a padded pixel has the value zero and takes no gradient."""
    lows, highs = zip(*geometry.padding, strict=True)
    even = lows == highs
    pads = [p for pair in reversed(geometry.padding) for p in pair]
    gx, gw, gb = torch.ops.aten.convolution_backward(
        grad.to(a.dtype).contiguous(),
        a.value if even else F.pad(a.value, pads),
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
        gx = a.through(gx if even else F.pad(gx, [-p for p in pads]))
    gb = None if gb is None or bias is None else gb.to(bias.dtype)
    return gx, None if gw is None else w.through(gw), gb


def matmul(grad: Tensor, a: Operand, w: Operand) -> Grads:
    """Gradients of ``x [..., M, K] @ weight [..., K, N]`` with broadcast leading dimensions."""
    grad = grad.to(a.dtype)
    gx = (grad @ w.value.mT).sum_to_size(a.x.shape)
    gw = (a.value.mT @ grad).sum_to_size(w.x.shape)
    return a.through(gx), w.through(gw)
