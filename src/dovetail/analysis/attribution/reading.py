"""What a loader gives to an attribution."""

from __future__ import annotations

from collections.abc import Iterable, Iterator
from typing import Any

import torch
from torch import Tensor, nn
from torch.utils._pytree import tree_map

from dovetail._batches import device_of, inputs_and_target
from dovetail.errors import DovetailError

__all__ = ["first_rows", "no_sample", "read"]


def read(model: nn.Module, loader: Iterable[Any]) -> Iterator[tuple[tuple[Any, ...], Tensor]]:
    """Inputs and target of every batch that holds a sample; what a loader draws is its own."""
    device = device_of(model)
    try:
        batches = iter(loader)
    except TypeError:
        raise DovetailError(
            f"a loader gives batches (inputs..., target), and {loader!r:.60} gives none"
        ) from None
    for batch in batches:
        inputs, target = inputs_and_target(tree_map(_recordable, batch), device)
        if not target.dim():
            raise DovetailError(
                "a batch's target has an entry for every sample; the loader gave a single number"
            )
        if len(target):
            state = torch.get_rng_state()
            yield inputs, target
            torch.set_rng_state(state)


def _recordable(value: Any) -> Any:
    """A tensor that a tape and gradients can take."""
    return value.clone() if isinstance(value, Tensor) and value.is_inference() else value


def no_sample() -> DovetailError:
    return DovetailError("the loader gave no sample: an attribution needs at least one")


def first_rows(inputs: tuple[Any, ...], most: int) -> tuple[Any, ...]:
    """The first samples of a batch, of the tensors that have a row for each."""
    sizes = {len(x) for x in inputs if isinstance(x, Tensor) and x.dim()}
    size = next(iter(sizes)) if len(sizes) == 1 else None
    return tuple(
        x[:most] if isinstance(x, Tensor) and x.dim() and len(x) == size else x for x in inputs
    )
