"""The cast of a weight that gradients flow to, made once and used until the weight changes.

What is kept are the rounded values and where the gradient passes. Each call gets a node of its own
in the graph that is recorded, so nothing of an earlier graph is kept alive.
"""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

import torch
from torch import Tensor
from torch.autograd.graph import saved_tensors_hooks

from dovetail.formats.cast import Masked, mask_of_cast
from dovetail.kernels.weight_cache import cached

__all__ = ["kept_with_gradient"]

Cast = Callable[[Tensor], Tensor]


def kept_with_gradient(weight: Tensor, key: Any, cast: Cast) -> Tensor:
    """``cast(weight)`` with its gradient, where ``weight`` is a leaf and the cast a single one.

    Casts of several steps (in another shape, say) are made at every call.

    >>> from dovetail.formats import cast
    >>> weight = torch.tensor([1.3, 9.0], requires_grad=True)
    >>> for _ in range(2):
    ...     kept_with_gradient(weight, "fp4", lambda w: cast(w, "fp4_e2m1fn")).sum().backward()
    >>> weight.grad
    tensor([2., 0.])
    """
    found: tuple[Tensor, Tensor] | None = cached(weight, key, lambda: _made(weight, cast))
    if found is None:
        return cast(weight)
    y: Tensor = _Kept.apply(weight, *found)  # type: ignore[no-untyped-call]
    return y


def _made(weight: Tensor, cast: Cast) -> tuple[Tensor, Tensor] | None:
    """The rounded weight and where its gradient passes; None if that is no mask of one step.

    Hooks of checkpointing, say, do not see what is saved here: it belongs to no graph of theirs.
    """
    leaf = weight.detach().requires_grad_()
    with torch.enable_grad(), saved_tensors_hooks(_same, _same):
        y = cast(leaf)
        inside = mask_of_cast(y)
    return None if inside is None else (y.detach(), inside)


def _same(x: Tensor) -> Tensor:
    return x


class _Kept(Masked):
    """A cast that was made earlier."""

    @staticmethod
    def forward(ctx: Any, _x: Tensor, y: Tensor, inside: Tensor) -> Tensor:
        ctx.save_for_backward(inside)
        ctx.save_for_forward(inside)
        return y.detach()
