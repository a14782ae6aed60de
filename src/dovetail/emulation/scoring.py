"""What calibration gathers for the scores of a sparsity: norms of inputs, or gradients."""

from __future__ import annotations

from dataclasses import replace

import torch
from torch import Tensor

from dovetail.emulation.calls import Call
from dovetail.emulation.operators import OpCall
from dovetail.errors import DovetailError

__all__ = ["Scorer", "weight_of", "with_weight"]


def weight_of(call: Call | OpCall) -> Tensor:
    """The weight of a call, in normal form.

    >>> weight_of(OpCall("embedding", {"weight": torch.ones(2)}, torch.relu))
    tensor([1., 1.])
    """
    return call.weight if isinstance(call, Call) else call.operands["weight"]


def with_weight(call: Call | OpCall, weight: Tensor) -> Call | OpCall:
    """The same call with another weight of the same shape."""
    if isinstance(call, Call):
        return replace(call, weight=weight)
    return call.with_operands({**call.operands, "weight": weight})


class Scorer:
    """Sums up, over the calls of one operation, what its score is made of.

    ``wanda``: for each weight the sum of squares of the inputs that it multiplies, whose root is
    :attr:`result`. ``gradient`` and ``movement``: the weight's gradients, over the backward passes
    of these calls.
    """

    def __init__(self, score: str) -> None:
        self.score = score
        self.weight: Tensor | None = None
        self.total: Tensor | None = None

    def watch(self, call: Call | OpCall) -> Call | OpCall:
        """The call to run in place of this one, so that it is seen."""
        weight = weight_of(call)
        self.weight = weight.detach()
        if self.score == "wanda":
            self.add(_squares(call))
            return call
        if not (torch.is_grad_enabled() and weight.requires_grad):
            return call
        seen = weight.view_as(weight)
        seen.register_hook(lambda grad: self.add(grad.detach()))
        return with_weight(call, seen)

    def add(self, found: Tensor) -> None:
        """Add what one call showed."""
        wide = found.to(torch.float32)
        self.total = wide if self.total is None else self.total + wide

    def result(self, key: str) -> Tensor:
        """What the score is made of; ``key`` names the operation in errors."""
        if self.weight is None:
            raise DovetailError(f"{key}: no calibration batch reached it, so it has no scores")
        if self.total is None:
            raise DovetailError(
                f"{key}: score={self.score} needs gradients: run 'loss(model(batch)).backward()' "
                "within dv.calibrate"
            )
        if not bool(torch.isfinite(self.total).all()):
            raise DovetailError(f"{key}: what score={self.score} is made of is not finite")
        if self.score == "wanda":
            return self.total.sqrt()
        product = self.total * self.weight.to(torch.float32)
        return product.abs() if self.score == "gradient" else -product


def _squares(call: Call | OpCall) -> Tensor:
    """For each weight the sum of squares of what it multiplies: the derivative, by the weight, of
    the sum of the operation's outputs on squared inputs."""
    with torch.inference_mode(False), torch.enable_grad():
        weight = torch.zeros_like(weight_of(call), dtype=torch.float32, requires_grad=True)
        squared = {
            name: weight if name == "weight" else value.detach().clone().to(torch.float32) ** 2
            for name, value in call.operands.items()
            if name != "bias"
        }
        if isinstance(call, Call):
            total = call.with_operands(squared["input"], weight, None).exact().sum()
        else:
            total = call.without_effects().with_operands(squared).exact().sum()
        (found,) = torch.autograd.grad(total, weight)
    return found
