"""Packed weights, made once and kept until the weight changes.

A weight is the same as long as it is the same tensor object, at the same address, with the same
version counter and the same sampled fingerprint. The version counter sees every in-place operation
except those through ``.data``; the fingerprint (a few hundred elements, spread evenly) sees those
that touch many elements, as optimisers do. Poking single elements through ``.data`` is seen by
neither: call :func:`forget` after it.
"""

from __future__ import annotations

import weakref
from collections.abc import Callable, Hashable
from functools import partial
from typing import Any, NamedTuple, TypeVar

import torch
from torch import Tensor

__all__ = ["cached", "forget"]

T = TypeVar("T")
_SAMPLES = 256


class _Entry(NamedTuple):
    weight: weakref.ref[Tensor]
    state: Hashable
    places: Tensor | None  # a view of the sampled elements; it also keeps their address from reuse
    sample: Tensor  # what stood there
    made: dict[Hashable, Any]


_entries: dict[int, _Entry] = {}


def cached(weight: Tensor, key: Hashable, make: Callable[[], T]) -> T:
    """``make()``, or its earlier result for the same unchanged ``weight`` and ``key``.

    What is made must hold no graph of gradients: a weight in training is kept as any other is.
    """
    if weight.is_inference():
        return make()
    state = (weight.data_ptr(), weight._version, weight.shape, weight.stride(), weight.dtype)
    entry = _entries.get(id(weight))
    if entry is None or not _unchanged(entry, weight, state):
        place = id(weight)
        # Bound here: what is kept may be a weight itself, and outlive the module's globals at exit.
        ref = weakref.ref(weight, partial(_drop, _entries, place))
        places = _places(weight)
        sample = _sample(weight) if places is None else places.clone()
        entry = _entries[place] = _Entry(ref, state, places, sample, {})
    if key not in entry.made:
        entry.made[key] = make()
    result: T = entry.made[key]
    return result


def _unchanged(entry: _Entry, weight: Tensor, state: Hashable) -> bool:
    if entry.weight() is not weight or entry.state != state:
        return False
    return torch.equal(_sample(weight) if entry.places is None else entry.places, entry.sample)


def _drop(entries: dict[int, Any], place: int, _: object) -> None:
    entries.pop(place, None)


def forget() -> None:
    """Drop every packed weight; the next call packs again.

    >>> forget()
    """
    _entries.clear()


def _places(weight: Tensor) -> Tensor | None:
    """The sampled elements where they stand, or ``None`` if they have to be gathered."""
    return _spread(weight.data.view(-1), len(weight)) if weight.is_contiguous() else None


def _sample(weight: Tensor) -> Tensor:
    return _spread(weight.detach().flatten(), len(weight))


def _spread(flat: Tensor, rows: int) -> Tensor:
    """A few hundred elements spread evenly, as bits (so that NaN equals itself)."""
    step = max(1, flat.numel() // _SAMPLES)
    row = flat.numel() // max(1, rows)
    if 1 < row <= step:
        # A step of whole rows would sample the same columns over and over: a golden section more.
        step += int(0.618 * row) - step % row
    step |= 1  # an even one would miss every second column
    view = {8: torch.int64, 4: torch.int32, 2: torch.int16, 1: torch.int8}[flat.element_size()]
    return flat[::step].view(view)
