"""Values that an op gave, with the derivative of an expression that has one."""

from __future__ import annotations

import torch
from torch import Tensor

from dovetail.emulation.calls import Call

__all__ = ["with_exact_gradient", "with_gradient_of"]


def with_gradient_of(value: Tensor, smooth: Tensor) -> Tensor:
    """``value``, differentiated as ``smooth``: exact zeros are added that depend on it.

    >>> x = torch.tensor(3.0, requires_grad=True)
    >>> with_gradient_of(torch.tensor(7.0), 2 * x).backward()
    >>> x.grad
    tensor(2.)
    """
    fixed = smooth.detach()
    return value - torch.where(torch.isfinite(fixed), fixed - smooth, torch.zeros_like(fixed))


def with_exact_gradient(value: Tensor, call: Call) -> Tensor:
    """``value``, which has no gradient, with that of the exact product; as it is while nothing
    records."""
    tensors = [t for t in (call.x, call.weight, call.bias) if t is not None]
    recording = torch.is_grad_enabled() and any(t.requires_grad for t in tensors)
    if not (recording or torch._C._are_functorch_transforms_active()):
        return value
    return with_gradient_of(value, call.exact())
