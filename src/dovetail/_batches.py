"""Batches of a user's loader and the mode a model runs in, for training and measuring alike."""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from typing import Any

import torch
import torch.nn.functional as F
from torch import Tensor, nn

from dovetail.errors import DovetailError

__all__ = ["classes_first", "cross_entropy", "device_of", "inputs_and_target", "mode"]


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


def classes_first(output: Any, target: Tensor) -> Any:
    """Logits as torch's losses take them, ``[B, classes, ...]`` for a target ``[B, ...]``.

    Those of language models come as ``[B, ..., classes]``; anything else is returned as it is.

    >>> classes_first(torch.zeros(2, 5, 128), torch.zeros(2, 5)).shape
    torch.Size([2, 128, 5])
    """
    if not isinstance(output, Tensor) or target.dim() < 2 or output.shape[:-1] != target.shape:
        return output
    fits = (output.shape[0], *output.shape[2:]) == target.shape
    return output if fits else output.movedim(-1, 1)


def cross_entropy(output: Any, target: Tensor) -> Tensor:
    """The mean over all targets, with classes on either axis.

    >>> round(float(cross_entropy(torch.zeros(2, 5, 128), torch.zeros(2, 5).long())), 3)
    4.852
    """
    return F.cross_entropy(classes_first(output, target), target)


@contextmanager
def mode(model: nn.Module, *, training: bool) -> Iterator[None]:
    """Every module in train or eval mode inside; each in its own mode again afterwards.

    >>> model = nn.Sequential(nn.BatchNorm1d(2).eval(), nn.ReLU())
    >>> with mode(model, training=False):
    ...     model.training, model[1].training
    (False, False)
    >>> model.training, model[0].training
    (True, False)
    """
    modes = [(module, module.training) for module in model.modules()]
    model.train(training)
    try:
        yield
    finally:
        for module, was in modes:
            module.training = was
