"""The batches that a recipe looks at: inputs of the model, one in memory at a time."""

from __future__ import annotations

from collections.abc import Iterable, Iterator, Mapping
from contextlib import contextmanager
from typing import Any

import torch
from torch import Tensor, nn
from torch.utils._pytree import tree_map

from dovetail._batches import device_of
from dovetail._progress import progress
from dovetail.emulation import Arguments
from dovetail.errors import DovetailError

__all__ = ["Batches", "quiet"]


class Batches:
    """What a model is called with, batch by batch, on the model's device.

    A batch is a tensor, a tuple of positional arguments or a dict of keyword arguments. ``given``
    may be read several times; an iterator, which cannot, is read once and kept.

    >>> batches = Batches([torch.ones(2, 3)], nn.Linear(3, 1))
    >>> [len(one.args) for one in batches], batches.first.kwargs
    ([1], {})
    >>> Batches(torch.ones(2, 3), nn.Linear(3, 1))
    Traceback (most recent call last):
    dovetail.errors.DovetailError: batches is an iterable of model inputs; for one batch give a ...
    """

    def __init__(self, given: Iterable[Any], model: nn.Module) -> None:
        if isinstance(given, (Tensor, Mapping, str)) or not isinstance(given, Iterable):
            raise DovetailError(
                "batches is an iterable of model inputs; for one batch give a list of it, [batch], "
                f"not a {type(given).__name__}"
            )
        self._given = list(given) if isinstance(given, Iterator) else given
        self._device = device_of(model)
        self.first = self._first()

    def __iter__(self) -> Iterator[Arguments]:
        return (self._read(one) for one in self._given)

    def over(self, text: str) -> Iterator[Arguments]:
        """The batches; a bar shows how far they are."""
        return (self._read(one) for one in progress(self._given, text))

    def _first(self) -> Arguments:
        for one in self:
            return one
        raise DovetailError("batches is empty: a recipe needs at least one batch of model inputs")

    def _read(self, batch: Any) -> Arguments:
        if isinstance(batch, list):
            raise DovetailError(
                "a batch is a tensor, a tuple of positional arguments or a dict of keyword "
                "arguments, not a list; of a loader of (inputs, target) give the inputs alone, as "
                "'[inputs for inputs, target in loader]'"
            )
        moved = tree_map(lambda v: v.to(self._device) if isinstance(v, Tensor) else v, batch)
        if isinstance(moved, Arguments):
            return moved
        if isinstance(moved, Mapping):
            return Arguments((), moved)
        return Arguments(moved if isinstance(moved, tuple) else (moved,), {})


@contextmanager
def quiet(model: nn.Module) -> Iterator[None]:
    """Eval mode, no gradients; flags and torch's random generators as they were afterwards.

    The flags are set directly: an exported model refuses ``eval()``, and a user's may do more.
    """
    flags = {module: module.training for module in model.modules()}
    with torch.no_grad(), torch.random.fork_rng():
        try:
            for module in flags:
                module.training = False
            yield
        finally:
            for module, flag in flags.items():
                module.training = flag
