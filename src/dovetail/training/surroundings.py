"""What is put around a training run and taken away again: a seed, and a progress bar."""

from __future__ import annotations

from collections.abc import Callable, Iterable, Iterator
from contextlib import contextmanager
from typing import Any

import torch
from rich.console import Console
from rich.progress import BarColumn, MofNCompleteColumn, Progress, TextColumn, TimeRemainingColumn

__all__ = ["bar", "seeded"]


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


@contextmanager
def bar(show: bool, epochs: int, batches: int | None) -> Iterator[Callable[[int, int], None]]:
    """A progress bar on standard error that leaves nothing behind; yields what moves it: the epoch,
    and the batches done in it."""
    columns = (
        TextColumn("{task.description}"),
        BarColumn(),
        MofNCompleteColumn(),
        TimeRemainingColumn(),
    )
    console = Console(stderr=True)
    with Progress(*columns, console=console, transient=True, disable=not show) as shown:
        task = shown.add_task("training", total=epochs * batches if batches else None)

        def tick(epoch: int, batch: int) -> None:
            done = (epoch - 1) * (batches or 0) + batch
            shown.update(task, completed=done, description=f"training, epoch {epoch}/{epochs}")

        yield tick
