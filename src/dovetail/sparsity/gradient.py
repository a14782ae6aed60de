"""``weight * mask`` with the gradient that the backward mode says."""

from __future__ import annotations

from typing import Any

import torch
from torch import Tensor

__all__ = ["masked"]


def masked(
    weight: Tensor,
    mask: Tensor,
    backward: str = "ste",
    scores: Tensor | None = None,
    *,
    kept_scores: bool = False,
) -> Tensor:
    """``weight`` with +0 where ``mask`` is false.

    ``backward`` is one of :data:`dovetail.sparsity.value.BACKWARD`; ``scores`` is what the modes
    ``supermask`` and ``joint`` give a gradient to (the weight's shape), if ``kept_scores`` only
    where the mask is true.

    >>> w = torch.tensor([3.0, -1.0], requires_grad=True)
    >>> masked(w, torch.tensor([True, False])).sum().backward(); w.grad
    tensor([1., 1.])
    >>> w.grad = None
    >>> masked(w, torch.tensor([True, False]), "masked").sum().backward(); w.grad
    tensor([1., 0.])
    """
    if not (torch.is_grad_enabled() or torch._C._are_functorch_transforms_active()):
        return torch.where(mask, weight, 0)
    y: Tensor = _Masked.apply(weight, scores, mask, backward, kept_scores)  # type: ignore[no-untyped-call]
    return y


class _Masked(torch.autograd.Function):
    generate_vmap_rule = True

    @staticmethod
    def forward(
        weight: Tensor, scores: Tensor | None, mask: Tensor, backward: str, kept_scores: bool
    ) -> Tensor:
        del scores, backward, kept_scores
        return torch.where(mask, weight, 0)

    @staticmethod
    def setup_context(ctx: Any, inputs: tuple[Any, ...], output: Tensor) -> None:
        del output
        weight, scores, mask, ctx.mode, ctx.kept_scores = inputs
        ctx.to_scores = scores is not None
        ctx.save_for_backward(weight, mask, scores)

    @staticmethod
    def backward(ctx: Any, grad: Tensor) -> tuple[Tensor | None, ...]:
        weight, mask, scores = ctx.saved_tensors
        to_weight: Tensor | None = None
        if ctx.mode == "ste":
            to_weight = grad
        elif ctx.mode in ("masked", "joint"):
            to_weight = torch.where(mask, grad, 0)
        if not ctx.to_scores:
            return to_weight, None, None, None, None
        to_scores = grad * weight
        if ctx.kept_scores:
            to_scores = torch.where(mask, to_scores, 0)
        return to_weight, to_scores.to(scores.dtype), None, None, None
