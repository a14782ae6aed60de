"""A progress bar for what takes longer than two seconds."""

from __future__ import annotations

import time
from collections.abc import Callable, Iterable, Iterator, Sized
from contextlib import contextmanager
from typing import TypeVar

from rich.console import Console
from rich.progress import BarColumn, MofNCompleteColumn, Progress, TextColumn, TimeRemainingColumn

__all__ = ["bar", "progress"]

T = TypeVar("T")
_PATIENCE = 2.0  # seconds


@contextmanager
def bar(text: str, total: int | None, show: bool = True) -> Iterator[Callable[[int, str], None]]:
    """What moves a bar: how many are done, and the text beside it.

    It appears after two seconds, on standard error, if that is a terminal, and leaves nothing
    behind.

    >>> with bar("training", 2) as tick:
    ...     tick(1, "training, epoch 1/2")
    """
    columns = (TextColumn("{task.description}"), BarColumn(), MofNCompleteColumn())
    console = Console(stderr=True)
    shown = Progress(*columns, TimeRemainingColumn(), console=console, transient=True)
    task, start = shown.add_task(text, total=total), time.monotonic()

    def tick(done: int, text: str) -> None:
        if show and console.is_terminal and time.monotonic() - start > _PATIENCE:
            shown.start()
        shown.update(task, completed=done, description=text)

    try:
        yield tick
    finally:
        if shown.live.is_started:
            shown.stop()


def progress(items: Iterable[T], text: str) -> Iterator[T]:
    """The items, counted by a :func:`bar`.

    >>> list(progress([1, 2], "smoothing"))
    [1, 2]
    """
    with bar(text, len(items) if isinstance(items, Sized) else None) as tick:
        for done, item in enumerate(items):
            tick(done, text)
            yield item
