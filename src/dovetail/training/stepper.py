"""One optimizer step: from several batches, in mixed precision, its gradient clipped."""

from __future__ import annotations

from collections.abc import Sequence
from contextlib import AbstractContextManager, nullcontext
from typing import Any

import torch
from torch import Tensor, nn
from torch.optim import Optimizer

from dovetail._numbers import is_number
from dovetail.errors import DovetailError, unknown
from dovetail.training.options import whole

__all__ = ["Stepper"]

PRECISIONS = {"fp32": None, "bf16": torch.bfloat16, "fp16": torch.float16}


class Stepper:
    """Gathers the gradients of ``accumulate`` batches and steps with their mean.

    ``precision`` is what torch's autocast computes in; ``fp16`` scales the loss so that small
    gradients survive, and skips a step whose gradients overflow. ``clip_norm`` bounds the norm of
    the whole gradient.

    >>> weight = nn.Parameter(torch.zeros(1))
    >>> step = Stepper(torch.optim.SGD([weight], lr=1.0), [weight], torch.device("cpu"))
    >>> step.backward((weight - 3).square().sum())
    >>> step.take()
    >>> weight.item()
    6.0
    """

    def __init__(
        self,
        optimizer: Optimizer,
        parameters: Sequence[nn.Parameter],
        device: torch.device,
        *,
        precision: str = "fp32",
        accumulate: int = 1,
        clip_norm: float | None = None,
    ) -> None:
        if not isinstance(precision, str) or precision not in PRECISIONS:
            raise unknown("precision", precision, PRECISIONS)
        whole("accumulate", accumulate, "a step takes at least 1 batch")
        if clip_norm is not None and not (is_number(clip_norm) and clip_norm > 0):
            raise DovetailError(f"clip_norm is {clip_norm!r}; the bound of a norm is above 0")
        self.optimizer, self.parameters, self.device = optimizer, parameters, device
        self.dtype, self.accumulate, self.clip_norm = PRECISIONS[precision], accumulate, clip_norm
        self.scaler = torch.amp.GradScaler(device.type, enabled=precision == "fp16")
        self.gathered = 0

    def autocast(self) -> AbstractContextManager[Any]:
        """What the forward pass runs in."""
        if self.dtype is None:
            return nullcontext()
        return torch.autocast(self.device.type, self.dtype)

    @property
    def is_due(self) -> bool:
        """Whether enough batches are gathered."""
        return self.gathered == self.accumulate

    def backward(self, loss: Tensor) -> None:
        """Gather the gradients of one batch."""
        if self.gathered == 0:
            self.optimizer.zero_grad(set_to_none=True)
        self.scaler.scale(loss / self.accumulate if self.accumulate > 1 else loss).backward()
        self.gathered += 1

    def take(self) -> None:
        """Step with the mean gradient of what is gathered: at an epoch's end that may be less."""
        if self.gathered < self.accumulate:
            for parameter in self.parameters:
                if parameter.grad is not None:
                    parameter.grad.mul_(self.accumulate / self.gathered)
        if self.clip_norm is not None:
            self.scaler.unscale_(self.optimizer)
            nn.utils.clip_grad_norm_(self.parameters, self.clip_norm)
        self.scaler.step(self.optimizer)
        self.scaler.update()
        self.gathered = 0
