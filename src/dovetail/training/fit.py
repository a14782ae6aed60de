"""A plain training loop: retrain an emulated model, or train any other."""

from __future__ import annotations

import math
from collections.abc import Callable, Iterable, Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from typing import Any

import torch
from rich.console import Console
from rich.progress import BarColumn, MofNCompleteColumn, Progress, TextColumn, TimeRemainingColumn
from torch import Tensor, nn
from torch.nn import functional as F
from torch.optim import Optimizer

from dovetail._batches import device_of, inputs_and_target, mode
from dovetail.errors import DovetailError
from dovetail.sparsity import Schedule
from dovetail.training.pruning import Pruning

__all__ = ["FitResult", "fit"]


@dataclass(frozen=True)
class FitResult:
    """What a training run did: the mean loss of each epoch, and how many steps were taken."""

    losses: tuple[float, ...]
    steps: int
    lr: float
    seed: int | None

    def to_dict(self) -> dict[str, Any]:
        """The same as plain values.

        >>> FitResult((0.5,), 3, 1e-3, None).to_dict()
        {'losses': [0.5], 'steps': 3, 'lr': 0.001, 'seed': None}
        """
        return {
            "losses": list(self.losses),
            "steps": self.steps,
            "lr": self.lr,
            "seed": self.seed,
        }


def fit(
    model: nn.Module,
    loader: Iterable[Any],
    *,
    epochs: int = 1,
    lr: float = 5e-4,
    optimizer: Callable[..., Optimizer] | None = None,
    loss: Callable[[Any, Tensor], Tensor] | None = None,
    seed: int | None = None,
    prune: str | Schedule | None = None,
    progress: bool = True,
    on_epoch: Callable[[int, float], None] | None = None,
) -> FitResult:
    """Train ``model`` in place on ``loader``'s batches ``(inputs..., target)``.

    ``optimizer(parameters, lr=lr)`` makes the optimizer (default: Adam); its learning rate falls
    from ``lr`` to 0 along a half cosine. ``loss(output, target)`` is a scalar tensor (default:
    cross entropy). With a ``seed``, data order, dropout and stochastic rounding repeat, and the
    global random generator is left as it was. ``prune`` takes the weights of sparse operations
    away step by step (:class:`dovetail.training.Pruning`). ``on_epoch(epoch, mean_loss)`` is called
    after each epoch, counted from 1. Each module's train/eval mode is restored at the end, also on
    errors.

    Raises :class:`DovetailError` for a loader without batches, a model without anything to train,
    and at the first loss that is not finite, before its step is taken.

    >>> _ = torch.manual_seed(0)
    >>> x = torch.randn(64, 4)
    >>> batches = [(x, (x[:, 0] > 0).long())]
    >>> result = fit(nn.Linear(4, 2), batches, epochs=3, lr=0.1, progress=False)
    >>> result.steps, result.losses[-1] < result.losses[0]
    (3, True)
    """
    if epochs < 1:
        raise DovetailError(f"epochs is {epochs}; training takes at least 1")
    if not (lr > 0 and math.isfinite(lr)):
        raise DovetailError(f"lr is {lr}; a learning rate is a positive number, such as 5e-4")
    parameters = [p for p in model.parameters() if p.requires_grad]
    if not parameters:
        raise DovetailError(
            f"{type(model).__name__} has no parameter with requires_grad=True: nothing to train"
        )
    step_on = (optimizer or torch.optim.Adam)(parameters, lr=lr)
    criterion = loss or F.cross_entropy
    device = device_of(model)
    batches = _length(loader)
    pruning = None if prune is None else _pruning(model, prune, epochs, batches)
    losses: list[float] = []
    steps = 0
    with (
        _seeded(seed, device, loader),
        mode(model, training=True),
        _bar(progress, epochs, batches) as tick,
    ):
        for epoch in range(1, epochs + 1):
            total, count = 0.0, 0
            for batch in loader:
                done = epoch - 1 + (min(count / batches, 1.0) if batches else 0.0)
                _set_lr(step_on, 0.5 * lr * (1 + math.cos(math.pi * done / epochs)))
                inputs, target = inputs_and_target(batch, device)
                value = criterion(model(*inputs), target)
                count += 1
                if not torch.isfinite(value).all():
                    raise DovetailError(
                        f"the loss is {value.item()} at epoch {epoch}, step {count}: training "
                        f"diverged and was stopped; try a lower lr (it is {lr:g})"
                    )
                step_on.zero_grad(set_to_none=True)
                value.backward()
                step_on.step()
                if pruning is not None:
                    pruning.step()
                total += value.item()
                tick(epoch)
            if count == 0:
                raise DovetailError(f"the loader gave no batch in epoch {epoch}: nothing to learn")
            losses.append(total / count)
            steps += count
            if on_epoch is not None:
                on_epoch(epoch, losses[-1])
    if pruning is not None:
        pruning.finish()
    return FitResult(tuple(losses), steps, lr, seed)


def _pruning(
    model: nn.Module, schedule: str | Schedule, epochs: int, batches: int | None
) -> Pruning:
    if batches is None:
        raise DovetailError("prune needs a loader with a length: a schedule has an end")
    return Pruning(model, schedule, epochs * max(1, batches))


def _length(loader: Iterable[Any]) -> int | None:
    """Batches in an epoch, or None for a stream: its learning rate then falls once an epoch."""
    try:
        return len(loader)  # type: ignore[arg-type]
    except TypeError:
        return None


def _set_lr(optimizer: Optimizer, lr: float) -> None:
    for group in optimizer.param_groups:
        group["lr"] = lr


@contextmanager
def _seeded(seed: int | None, device: torch.device, loader: Iterable[Any]) -> Iterator[None]:
    """Torch's generators, and the loader's own if it has one, start at ``seed``; then as before."""
    if seed is None:
        yield
        return
    own = getattr(loader, "generator", None)
    before = own.get_state() if own is not None else None
    devices = [device] if device.type == "cuda" else []
    with torch.random.fork_rng(devices=devices):
        torch.manual_seed(seed)
        if own is not None:
            own.manual_seed(seed)
        try:
            yield
        finally:
            if own is not None and before is not None:
                own.set_state(before)


@contextmanager
def _bar(show: bool, epochs: int, batches: int | None) -> Iterator[Callable[[int], None]]:
    """A progress bar on standard error that leaves nothing behind; yields its per-step tick."""
    columns = (
        TextColumn("{task.description}"),
        BarColumn(),
        MofNCompleteColumn(),
        TimeRemainingColumn(),
    )
    console = Console(stderr=True)
    with Progress(*columns, console=console, transient=True, disable=not show) as bar:
        task = bar.add_task("training", total=epochs * batches if batches else None)

        def tick(epoch: int) -> None:
            bar.update(task, advance=1, description=f"training, epoch {epoch}/{epochs}")

        yield tick
