"""What the backward pass of a product of block formats computes.

As in :mod:`dovetail.kernels.gradients`: the exact product of the cast operands is differentiated,
and each cast passes its gradient straight through where it did not clip. What rounds
stochastically is cast before, and by that has its gradient.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import replace

import torch
from torch import Tensor

from dovetail.arithmetic import Arithmetic
from dovetail.formats import Format
from dovetail.formats.realise import in_torch, inside, is_stochastic, round_values
from dovetail.kernels import backward
from dovetail.kernels.backward import ExactProduct, Grads
from dovetail.kernels.block_codes import Blocked
from dovetail.kernels.geometry import LINEAR, Geometry

__all__ = ["conv", "linear", "matmul"]


class _Operand:
    """An operand's cast value, in the product's dtype, and how a gradient passes back."""

    def __init__(
        self, x: Tensor, fmt: Format | None, axis: int, clip: bool, dtype: torch.dtype, groups: int
    ) -> None:
        assert isinstance(fmt, Blocked)
        self.cast_already = is_stochastic(fmt)
        self.x, self.clip, self.dtype = x, clip and not self.cast_already, dtype
        # The blocks of a convolution's input end with its group.
        self.grouped = torch.unflatten(x, axis, (groups, -1)) if groups > 1 else x
        self.axis = axis + 1 if groups > 1 else axis
        self.fmt = replace(fmt, axis=None)

    @property
    def value(self) -> Tensor:
        if self.cast_already:
            return self.x.to(self.dtype)
        # While the backward pass is traced, tensors have no memory for a native cast to read.
        plain = type(self.grouped) in (Tensor, torch.nn.Parameter)
        rounded = (round_values if plain else in_torch)(self.grouped, self.fmt, self.axis)
        return rounded.to(self.dtype).reshape(self.x.shape)

    def through(self, grad: Tensor) -> Tensor:
        grad = grad.to(self.x.dtype)
        if not self.clip:
            return grad
        return grad * inside(self.grouped, self.fmt, self.axis).reshape(self.x.shape)


def _product(
    x: Tensor, w: Tensor, rule: Arithmetic, axes: tuple[int, int], groups: int = 1
) -> ExactProduct[_Operand]:
    clip, dtype = rule.grad.clips, torch.promote_types(x.dtype, w.dtype)
    first = _Operand(x, rule.input, axes[0], clip, dtype, groups)
    return ExactProduct(first, _Operand(w, rule.weight, axes[1], clip, dtype, 1), dtype)


def linear(
    grad: Tensor,
    x: Tensor,
    weight: Tensor,
    bias: Tensor | None,
    rule: Arithmetic,
    geometry: Geometry,
    needed: Sequence[bool],
) -> Grads:
    """See :func:`dovetail.kernels.backward.linear`."""
    assert geometry == LINEAR
    return backward.linear(grad, _product(x, weight, rule, (-1, -1)), bias, needed)


def conv(
    grad: Tensor,
    x: Tensor,
    weight: Tensor,
    bias: Tensor | None,
    rule: Arithmetic,
    geometry: Geometry,
    needed: Sequence[bool],
) -> Grads:
    """See :func:`dovetail.kernels.backward.conv`."""
    product = _product(x, weight, rule, (1, 1), geometry.groups)
    return backward.conv(grad, product, bias, geometry, needed)


def matmul(
    grad: Tensor, x: Tensor, weight: Tensor, rule: Arithmetic, needed: Sequence[bool]
) -> Grads:
    """See :func:`dovetail.kernels.backward.matmul`."""
    return backward.matmul(grad, _product(x, weight, rule, (-1, -2)), needed)
