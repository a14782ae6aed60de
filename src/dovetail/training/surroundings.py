"""What is put around a training run and taken away again: a seed."""

from __future__ import annotations

from collections.abc import Iterable, Iterator
from contextlib import contextmanager
from typing import Any

import torch

__all__ = ["seeded"]


@contextmanager
def seeded(seed: int | None, device: torch.device, loader: Iterable[Any]) -> Iterator[None]:
    """Torch's generators, and the loader's own if it has one, start at ``seed``; then as before.

    >>> before = torch.get_rng_state()
    >>> with seeded(3, torch.device("cpu"), []):
    ...     _ = torch.rand(1)
    >>> torch.equal(before, torch.get_rng_state())
    True
    """
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
