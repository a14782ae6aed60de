"""The processes that train one model together, or one alone."""

from __future__ import annotations

from contextlib import AbstractContextManager, nullcontext
from typing import Any

import torch
import torch.distributed as dist
from torch import nn
from torch.nn.parallel import DistributedDataParallel

from dovetail.errors import DovetailError

__all__ = ["Group", "group_of", "is_sharded", "unwrapped"]


class Group:
    """Who trains together: ``size`` processes, this one being the ``rank``-th of them."""

    def __init__(self, device: torch.device, process_group: Any = None) -> None:
        self.device, self.handle = device, process_group
        self.size = 1 if process_group is None else dist.get_world_size(process_group)
        self.rank = 0 if process_group is None else dist.get_rank(process_group)

    @property
    def is_first(self) -> bool:
        """Whether this process speaks and writes for all."""
        return self.rank == 0

    def sharing(self, model: nn.Module, now: bool) -> AbstractContextManager[Any]:
        """What a batch runs in, forward and backward: unless ``now``, DDP leaves the gradients with
        each process, and shares their sum with the next batch's."""
        if now or not isinstance(model, DistributedDataParallel):
            return nullcontext()
        return model.no_sync()

    def mean(self, value: float) -> float:
        """The mean over all processes, which all get."""
        if self.size == 1:
            return value
        total = torch.tensor(value, dtype=torch.float64, device=self.device)
        dist.all_reduce(total, group=self.handle)
        return float(total) / self.size

    def gather(self, value: Any) -> list[Any]:
        """Everybody's value, by rank, which all get: where all wait for each other, too."""
        if self.size == 1:
            return [value]
        found: list[Any] = [None] * self.size
        dist.all_gather_object(found, value, group=self.handle)
        return found


def group_of(model: nn.Module, device: torch.device) -> Group:
    """The group that ``model`` is trained by: that of its DDP wrapper, or, for FSDP2, all.

    >>> group_of(nn.Linear(2, 2), torch.device("cpu")).size
    1
    """
    if isinstance(model, DistributedDataParallel):
        return Group(device, model.process_group)
    started = dist.is_available() and dist.is_initialized()
    if not started or dist.get_world_size() == 1:
        return Group(device)
    if any(is_sharded(parameter) for parameter in model.parameters()):
        return Group(device, dist.group.WORLD)
    raise DovetailError(
        f"{dist.get_world_size()} processes run, but this {type(model).__name__} is wrapped for "
        "none of them: each would train its own. Wrap it in DistributedDataParallel (for one "
        "process alone with process_group=dist.new_group([rank])) or shard it with fully_shard"
    )


def is_sharded(tensor: torch.Tensor) -> bool:
    """Whether this process holds only a part of the tensor, as under FSDP2."""
    return hasattr(tensor, "to_local")


def unwrapped(model: nn.Module) -> nn.Module:
    """The user's own module inside what DDP and ``torch.compile`` put around it.

    >>> net = nn.Linear(2, 2)
    >>> unwrapped(torch.compile(net, backend="eager")) is net
    True
    """
    if isinstance(model, DistributedDataParallel):
        return unwrapped(model.module)
    inner = getattr(model, "_orig_mod", None)
    return unwrapped(inner) if isinstance(inner, nn.Module) else model
