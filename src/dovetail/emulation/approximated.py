"""One operator computed by an approximation, and whose derivative it has."""

from __future__ import annotations

from collections.abc import Iterable

import torch
from torch import Tensor

from dovetail.approximations import Approximation
from dovetail.emulation.operators import OpCall

__all__ = ["approximated"]


def approximated(call: OpCall, fn: Approximation) -> Tensor:
    """The approximation's result; its gradient is the exact function's unless ``fn`` says more."""
    operands, attributes = call.operands, call.attributes
    if fn.grad == "approximation" or not _is_followed(operands.values()):
        return fn.compute(call.kind, operands, attributes)
    fixed = {name: value.detach() for name, value in operands.items()}
    y = fn.compute(call.kind, fixed, attributes)
    smooth = call.exact()
    there = smooth.detach()
    # What is added is exactly zero, so that every bit is the approximation's.
    return y - torch.where(torch.isfinite(there), there - smooth, torch.zeros_like(there))


def _is_followed(operands: Iterable[Tensor]) -> bool:
    """Whether someone may ask for a gradient."""
    if torch._C._are_functorch_transforms_active():
        return True
    return torch.is_grad_enabled() and any(t.requires_grad for t in operands)
