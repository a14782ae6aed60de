"""A progress bar for what takes longer than two seconds."""

from __future__ import annotations

import time
from collections.abc import Iterable, Iterator, Sized
from typing import TypeVar

from rich.console import Console
from rich.progress import BarColumn, MofNCompleteColumn, Progress, TextColumn, TimeElapsedColumn

__all__ = ["progress"]

T = TypeVar("T")
_PATIENCE = 2.0  # seconds


def progress(items: Iterable[T], text: str) -> Iterator[T]:
    """The items; after two seconds a bar on standard error, if that is a terminal, counts them.

    >>> list(progress([1, 2], "smoothing"))
    [1, 2]
    """
    total = len(items) if isinstance(items, Sized) else None
    columns = (TextColumn("{task.description}"), BarColumn(), MofNCompleteColumn())
    console = Console(stderr=True)
    bar = Progress(*columns, TimeElapsedColumn(), console=console, transient=True)
    task = bar.add_task(text, total=total)
    start, shown = time.monotonic(), False
    try:
        for item in items:
            if not shown and console.is_terminal and time.monotonic() - start > _PATIENCE:
                bar.start()
                shown = True
            yield item
            bar.advance(task)
    finally:
        if shown:
            bar.stop()
