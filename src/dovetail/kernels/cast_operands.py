"""Operands of a product of codes, as the backward pass sees them again."""

from __future__ import annotations

from collections.abc import Sequence
from functools import cached_property

import torch
from torch import Tensor

from dovetail.formats import IntFormat
from dovetail.formats.quantization import dequantize
from dovetail.formats.realise import Report, round_integers
from dovetail.gradients import Gradient
from dovetail.kernels.learned_steps import step_gradient
from dovetail.kernels.native_integers import codes_of
from dovetail.kernels.ranges import operand_range, weight_range

__all__ = ["CastOperand", "Ranges"]

Ranges = Sequence[Tensor | None]


class CastOperand:
    """One operand of a product: its cast value, and how a gradient passes back through the cast.

    ``dtype`` is that of the product: under autocast the other operand may be wider. ``grad`` says
    how a gradient passes; where it learns the scale, ``step_grad`` is the gradient by that, once
    :meth:`through` has seen the one by the value.
    """

    def __init__(
        self,
        x: Tensor,
        fmt: IntFormat,
        slot: str,
        given: Ranges,
        grad: Gradient,
        dtype: torch.dtype,
    ) -> None:
        scale, zero = given
        pair = None if scale is None or zero is None else (scale.detach(), zero)
        self.slot = slot
        self.learned = grad.cast if self.role in grad.learned else None
        self.step_grad: Tensor | None = None
        self.x, self.fmt, self.dtype = x, fmt, dtype
        own = slot == "weight" and pair is None
        self.scale, self.zero = weight_range(x, fmt) if own else operand_range(x, fmt, slot, pair)
        self.axis = 0 if self.scale.dim() else None
        # The extremes of the operand itself clip nothing.
        self.clips = grad.clips and (pair is not None or fmt.leaves_out)

    @property
    def role(self) -> str:
        """The slot in the arithmetic: a second activation stands in the weight's."""
        return "weight" if self.slot == "second" else self.slot

    @property
    def value(self) -> Tensor:
        """What the cast left, in the product's dtype."""
        if self.dtype == self.x.dtype:
            return self._cast[0]
        return dequantize(self.codes, self.scale, self.zero, self.axis, self.dtype)

    @property
    def codes(self) -> Tensor:
        """What the cast left, as the multiplier saw it."""
        return codes_of(self.x.detach(), self.fmt, self.scale, self.zero, self.axis)

    @cached_property
    def _cast(self) -> tuple[Tensor, Tensor | None]:
        """The value in the operand's own dtype, and where it did not clip, in one pass."""
        report = Report() if self.clips else None
        fixed = self.x.detach()
        y = round_integers(fixed, self.fmt, self.scale, self.zero, self.axis, None, report)
        return y, None if report is None else report.inside

    @property
    def offset(self) -> Tensor:
        """The value of code zero, to broadcast over ``x``."""
        whole = -(self.zero * self.scale).to(self.dtype)
        return whole if self.axis is None else whole.view(-1, *[1] * (self.x.dim() - 1))

    def through(self, grad: Tensor) -> Tensor:
        """The gradient by ``x``, given that by the value."""
        if self.learned:
            self.step_grad = step_gradient(
                self.x.detach(), self.fmt, self.scale, self.learned, self.slot, grad
            )
        grad = grad.to(self.x.dtype)
        inside = self._cast[1]
        return grad if inside is None else torch.where(inside, grad, 0.0)
