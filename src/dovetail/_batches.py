"""What a batch of a user's loader holds, said once for training and for measuring."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

import torch
from torch import Tensor, nn

from dovetail.errors import DovetailError

__all__ = ["device_of", "inputs_and_target"]


def device_of(model: nn.Module) -> torch.device:
    """Where a model lives: the device of its first parameter or buffer, else the CPU.

    >>> device_of(nn.Linear(2, 2))
    device(type='cpu')
    """
    for tensor in (*model.parameters(), *model.buffers()):
        return tensor.device
    return torch.device("cpu")


def inputs_and_target(batch: Any, device: torch.device) -> tuple[tuple[Any, ...], Tensor]:
    """Positional inputs and the target of one batch: its last entry is the target.

    >>> inputs, target = inputs_and_target([torch.zeros(2, 3), torch.ones(2)], torch.device("cpu"))
    >>> len(inputs), target
    (1, tensor([1., 1.]))
    >>> inputs_and_target(torch.zeros(2, 3), torch.device("cpu"))
    Traceback (most recent call last):
    dovetail.errors.DovetailError: a batch must be (inputs..., target); the loader gave a Tensor
    """
    if not isinstance(batch, Sequence) or isinstance(batch, str) or len(batch) < 2:
        size = f" of {len(batch)}" if isinstance(batch, Sequence) else ""
        raise DovetailError(
            f"a batch must be (inputs..., target); the loader gave a {type(batch).__name__}{size}"
        )
    moved = [item.to(device) if isinstance(item, Tensor) else item for item in batch]
    target = moved[-1]
    if not isinstance(target, Tensor):
        raise DovetailError(
            f"a batch's last entry is the target tensor; the loader gave a {type(target).__name__}"
        )
    return tuple(moved[:-1]), target
