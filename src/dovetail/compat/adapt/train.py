"""The loops that AdaPT's notebooks take from torchvision's references."""

from __future__ import annotations

from collections.abc import Callable, Iterable
from typing import Any

import torch
from torch import Tensor, nn

from dovetail._progress import progress

__all__ = ["evaluate", "train_one_epoch"]

Criterion = Callable[[Tensor, Tensor], Tensor]


def train_one_epoch(
    model: nn.Module,
    criterion: Criterion,
    optimizer: torch.optim.Optimizer,
    data_loader: Iterable[Any],
    device: str | torch.device,
    epoch: int,
    print_freq: int = 1,
) -> float:
    """Train once over ``(image, target)`` batches; the mean loss. A bar shows how far it is, so
    ``print_freq`` is not needed.

    >>> model, data = nn.Linear(2, 2), [(torch.ones(4, 2), torch.zeros(4, dtype=torch.long))]
    >>> sgd = torch.optim.SGD(model.parameters(), lr=0.1)
    >>> first = train_one_epoch(model, nn.CrossEntropyLoss(), sgd, data, "cpu", 0)
    >>> train_one_epoch(model, nn.CrossEntropyLoss(), sgd, data, "cpu", 1) < first
    True
    """
    del print_freq
    model.train()
    total, count = 0.0, 0
    for image, target in progress(data_loader, f"epoch {epoch}"):
        loss = criterion(model(image.to(device)), target.to(device))
        optimizer.zero_grad()
        loss.backward()
        optimizer.step()
        total, count = total + float(loss.detach()) * len(image), count + len(image)
    return total / max(count, 1)


def evaluate(
    model: nn.Module,
    criterion: Criterion,
    data_loader: Iterable[Any],
    device: str | torch.device,
    print_freq: int = 100,
) -> float:
    """The share of ``(image, target)`` pairs classified right, in per cent.

    >>> images, targets = torch.eye(2), torch.tensor([0, 1])
    >>> evaluate(nn.Identity(), nn.CrossEntropyLoss(), [(images, targets)], "cpu")
    100.0
    """
    del criterion, print_freq
    model.eval()
    right, count = 0, 0
    with torch.no_grad():
        for image, target in progress(data_loader, "evaluating"):
            right += int((model(image.to(device)).argmax(1) == target.to(device)).sum())
            count += len(image)
    return 100.0 * right / max(count, 1)
