"""What a model gives for all batches of a loader."""

from __future__ import annotations

from collections.abc import Iterable
from typing import Any

import torch
from torch import Tensor, nn

from dovetail._batches import classes_first, device_of, inputs_and_target, mode
from dovetail.errors import DovetailError

__all__ = ["agreement", "outputs"]


def outputs(
    model: nn.Module, loader: Iterable[Any], seed: int | None = None
) -> tuple[Tensor, Tensor]:
    """The outputs, classes on axis 1, and the targets; in eval mode, without gradients.

    With a ``seed`` everything random starts from it, and torch's global generator is left as it
    was.

    >>> outputs(nn.Identity(), [(torch.eye(2), torch.tensor([0, 1]))])[1]
    tensor([0, 1])
    """
    device = device_of(model)
    found: list[Tensor] = []
    targets: list[Tensor] = []
    with (
        mode(model, training=False),
        torch.no_grad(),
        torch.random.fork_rng(devices=[], enabled=seed is not None),
    ):
        if seed is not None:
            torch.manual_seed(seed)
        for batch in loader:
            inputs, target = inputs_and_target(batch, device)
            found.append(classes_first(model(*inputs), target))
            targets.append(target)
    if not found:
        raise DovetailError("the data has no batch: there is nothing to measure")
    return torch.cat(found), torch.cat(targets)


def agreement(reference: Tensor, logits: Tensor) -> float:
    """The share of targets for which both have the same largest logit.

    >>> agreement(torch.eye(2), torch.tensor([[2.0, 1.0], [1.0, 0.0]]))
    0.5
    """
    return float((logits.argmax(1) == reference.argmax(1)).double().mean())
