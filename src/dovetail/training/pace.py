"""The learning rate of every step: by a schedule of ours, or by a scheduler of torch's."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

from torch.optim import Optimizer
from torch.optim.lr_scheduler import LRScheduler

from dovetail._numbers import is_number
from dovetail.errors import DovetailError
from dovetail.training.rates import LearningRate, learning_rate

__all__ = ["Pace"]


class Pace:
    """Sets the learning rate before each optimizer step.

    ``schedule`` gives each group's share of its own highest rate by the progress (0 to 1) of the
    training; ``scheduler(optimizer)`` makes a torch scheduler instead, stepped once a step.

    >>> import torch
    >>> sgd = torch.optim.SGD([torch.nn.Parameter(torch.zeros(1))], lr=0.5)
    >>> Pace(sgd, "linear").set(0.25)
    >>> sgd.param_groups[0]["lr"]
    0.375
    """

    def __init__(
        self,
        optimizer: Optimizer,
        schedule: str | LearningRate | Callable[[float], float] = "cosine",
        scheduler: Callable[[Optimizer], LRScheduler] | None = None,
    ) -> None:
        self.optimizer = optimizer
        self.highest = [float(group["lr"]) for group in optimizer.param_groups]
        self.torchs = None if scheduler is None else scheduler(optimizer)
        if scheduler is not None and not hasattr(self.torchs, "state_dict"):
            raise DovetailError(
                f"scheduler gave a {type(self.torchs).__name__}: it takes the optimizer and gives "
                "a torch.optim.lr_scheduler"
            )
        if callable(schedule):
            self.share, self.name = schedule, getattr(schedule, "__qualname__", "own")
        else:
            given = learning_rate(schedule)
            self.share, self.name = given.at, str(given)
        if self.torchs is not None:
            self.name = type(self.torchs).__name__

    @property
    def needs_steps(self) -> bool:
        """Whether it makes no sense to know progress once an epoch only."""
        return getattr(getattr(self.share, "__self__", None), "warmup", 0.0) > 0

    def set(self, progress: float) -> None:
        """Before a step, with the share of the training that is done."""
        if self.torchs is None:
            share = self.share(progress)
            if not is_number(share) or share < 0:
                raise DovetailError(
                    f"the schedule gave {share!r} at progress {progress:g}: it gives the share of "
                    "lr, a number from 0 on"
                )
            for group, highest in zip(self.optimizer.param_groups, self.highest, strict=True):
                group["lr"] = highest * float(share)

    def stepped(self) -> None:
        """After a step."""
        if self.torchs is not None:
            self.torchs.step()

    def state(self) -> dict[str, Any] | None:
        """What a checkpoint needs: schedules of ours have no state."""
        return None if self.torchs is None else dict(self.torchs.state_dict())

    def restore(self, saved: dict[str, Any] | None) -> None:
        """What :meth:`state` gave."""
        if self.torchs is not None and saved is not None:
            self.torchs.load_state_dict(saved)
