"""What the backward pass of a product of block formats computes.

As in :mod:`dovetail.kernels.gradients`: the exact product of the cast operands is differentiated,
and each cast passes its gradient straight through where it did not clip.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import replace

import torch
import torch.nn.functional as F
from torch import Tensor

from dovetail.arithmetic import Arithmetic
from dovetail.formats import BlockFloat, Format, MXFormat
from dovetail.formats.realise import in_torch, inside, round_values
from dovetail.kernels.geometry import LINEAR, Geometry

__all__ = ["conv", "linear", "matmul"]

Grads = tuple[Tensor | None, ...]


class _Operand:
    """An operand's cast value, in the product's dtype, and how a gradient passes back."""

    def __init__(
        self, x: Tensor, fmt: Format | None, axis: int, clip: bool, dtype: torch.dtype, groups: int
    ) -> None:
        assert isinstance(fmt, (BlockFloat, MXFormat))
        self.shape, self.clip, self.dtype = x.shape, clip, dtype
        # The blocks of a convolution's input end with its group.
        self.x = torch.unflatten(x, axis, (groups, -1)) if groups > 1 else x
        self.axis = axis + 1 if groups > 1 else axis
        self.fmt = replace(fmt, axis=None)

    @property
    def value(self) -> Tensor:
        # While the backward pass is traced, tensors have no memory for a native cast to read.
        plain = type(self.x) in (Tensor, torch.nn.Parameter)
        rounded = (round_values if plain else in_torch)(self.x, self.fmt, self.axis)
        return rounded.to(self.dtype).reshape(self.shape)

    def through(self, grad: Tensor) -> Tensor:
        grad = grad.to(self.x.dtype)
        if not self.clip:
            return grad
        return grad * inside(self.x, self.fmt, self.axis).reshape(self.shape)


def _operands(
    x: Tensor, w: Tensor, rule: Arithmetic, axes: tuple[int, int], groups: int = 1
) -> tuple[_Operand, _Operand]:
    clip, dtype = rule.grad == "ste", torch.promote_types(x.dtype, w.dtype)
    return (
        _Operand(x, rule.input, axes[0], clip, dtype, groups),
        _Operand(w, rule.weight, axes[1], clip, dtype, 1),
    )


def linear(
    grad: Tensor,
    x: Tensor,
    weight: Tensor,
    bias: Tensor | None,
    rule: Arithmetic,
    geometry: Geometry,
    needed: Sequence[bool],
) -> Grads:
    """Gradients of ``y [..., N]`` by ``x [..., K]``, ``weight [N, K]`` and ``bias [N]``."""
    assert geometry == LINEAR
    a, w = _operands(x, weight, rule, (-1, -1))
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
    rule: Arithmetic,
    geometry: Geometry,
    needed: Sequence[bool],
) -> Grads:
    """Gradients of a convolution; a padded pixel takes no gradient."""
    a, w = _operands(x, weight, rule, (1, 1), geometry.groups)
    pads = [p for pair in reversed(geometry.padding) for p in pair]
    gx, gw, gb = torch.ops.aten.convolution_backward(
        grad.to(a.dtype).contiguous(),
        F.pad(a.value, pads),
        w.value,
        None if bias is None else list(bias.shape),
        list(geometry.stride),
        [0] * geometry.spatial,
        list(geometry.dilation),
        False,
        [0] * geometry.spatial,
        geometry.groups,
        [bool(needed[0]), bool(needed[1]), bias is not None and bool(needed[2])],
    )
    gx = None if gx is None else a.through(F.pad(gx, [-p for p in pads]))
    gb = None if gb is None or bias is None else gb.to(bias.dtype)
    return gx, None if gw is None else w.through(gw), gb


def matmul(grad: Tensor, x: Tensor, weight: Tensor, rule: Arithmetic) -> Grads:
    """Gradients of ``x [..., M, K] @ weight [..., K, N]`` with broadcast leading dimensions."""
    a, w = _operands(x, weight, rule, (-1, -2))
    grad = grad.to(a.dtype)
    gx = (grad @ w.value.mT).sum_to_size(x.shape)
    gw = (a.value.mT @ grad).sum_to_size(weight.shape)
    return a.through(gx), w.through(gw)
