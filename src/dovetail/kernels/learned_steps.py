"""Scales that are learned: the gradient by the step of an operand's codes.

With ``x`` cast to ``s * clamp(rint(x / s), qmin, qmax)``, the step ``s`` gets ``factor * sum_i
grad_i c_i``, over the values that share it, where ``grad_i`` is the gradient by what the cast left:

* ``lsq`` (Esser et al., Learned Step Size Quantization, arXiv 1902.08153): ``c`` is ``rint(x / s) -
  x / s`` where ``x / s`` is between ``qmin`` and ``qmax``, else the nearer of them; ``factor = 1 /
  sqrt(n * qmax)`` with ``n`` the number of weights that share the step, or of an input's values in
  one example (the first axis being that of examples).
* ``pact`` (Choi et al., arXiv 1805.06085), in terms of the step, ``alpha = s * qmax``: ``c`` is 0
  where ``x / s`` is between ``qmin`` and ``qmax``, else the nearer of them; ``factor = 1``.
"""

from __future__ import annotations

import math

import torch
from torch import Tensor

from dovetail.formats import IntFormat

__all__ = ["first_step", "learned_cast", "step_gradient"]


def first_step(weight: Tensor, fmt: IntFormat) -> Tensor:
    """LSQ's first step of a weight, ``2 mean |w| / sqrt(qmax)``: [N] for a format per channel.

    >>> first_step(torch.tensor([[1.0, -3.0], [0.0, 0.0]]), IntFormat(3, channel=0))
    tensor([2.3094, 1.0000])
    """
    fixed = weight.detach().float().abs()
    axis = fmt.axis_for("weight")
    mean = fixed.mean() if axis is None else fixed.flatten(1).mean(1)
    step = 2 * mean / math.sqrt(fmt.qmax)
    return torch.where(step > 0, step, torch.ones_like(step))


def step_gradient(
    x: Tensor, fmt: IntFormat, scale: Tensor, cast: str, slot: str, grad: Tensor
) -> Tensor:
    """The gradient by ``scale`` ([] or [N]), given that by the cast value, of ``x``'s shape.

    >>> x, step = torch.tensor([0.3, 9.0]), torch.tensor(0.5)
    >>> step_gradient(x, IntFormat(4), step, "pact", "input", torch.ones(2))
    tensor(7.)
    """
    parts = grad.to(scale.dtype) * _coefficients(x, fmt, scale, cast)
    total = parts.sum() if scale.dim() == 0 else parts.flatten(1).sum(1)
    return total * _factor(x, fmt, scale, cast, slot)


def learned_cast(x: Tensor, fmt: IntFormat, scale: Tensor, cast: str, slot: str) -> Tensor:
    """``x`` cast, with the derivatives by ``x`` and ``scale``, for ``torch.func``."""
    fixed, step = x.detach(), _along(scale.detach(), x)
    steps = torch.round(fixed / step)
    codes = steps.clamp(fmt.qmin, fmt.qmax)
    c = _coefficients(fixed, fmt, scale.detach(), cast)
    by_x = torch.where(steps == codes, x - fixed, 0.0)
    by_step = _along(scale - scale.detach(), x) * _factor(x, fmt, scale, cast, slot)
    return codes * step + by_x + c * by_step


def _coefficients(x: Tensor, fmt: IntFormat, scale: Tensor, cast: str) -> Tensor:
    steps = x / _along(scale, x)
    inner = torch.round(steps) - steps if cast == "lsq" else torch.zeros_like(steps)
    inner = torch.where(steps >= fmt.qmax, float(fmt.qmax), inner)
    return torch.where(steps <= fmt.qmin, float(fmt.qmin), inner)


def _factor(x: Tensor, fmt: IntFormat, scale: Tensor, cast: str, slot: str) -> float:
    if cast == "pact":
        return 1.0
    groups = scale.numel() if slot == "weight" else len(x) if x.dim() > 1 else 1
    return 1 / math.sqrt(max(x.numel() // max(groups, 1), 1) * fmt.qmax)


def _along(scale: Tensor, x: Tensor) -> Tensor:
    return scale if scale.dim() == 0 else scale.view(-1, *[1] * (x.dim() - 1))
