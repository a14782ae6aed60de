"""How far a search is, on standard error: trials done of all, and the size of the front."""

from __future__ import annotations

import time
from collections.abc import Iterator
from contextlib import contextmanager

from rich.console import Console
from rich.progress import BarColumn, MofNCompleteColumn, Progress, TextColumn, TimeElapsedColumn

from dovetail.search.evaluator import Evaluator
from dovetail.search.journal import Record
from dovetail.search.study import Watch
from dovetail.search.worker import is_evaluated

__all__ = ["watching"]

_PATIENCE = 2.0  # seconds


@contextmanager
def watching(trials: int, evaluator: Evaluator, *, show: bool) -> Iterator[Watch]:
    """What to show the records to; after two seconds a bar follows, if there is a terminal."""
    console = Console(stderr=True)
    columns = (TextColumn("{task.description}"), BarColumn(), MofNCompleteColumn())
    bar = Progress(*columns, TimeElapsedColumn(), console=console, transient=True)
    task = bar.add_task("searching", total=trials)
    start, shown = time.monotonic(), False

    def watch(records: list[Record]) -> None:
        nonlocal shown
        if not show or not console.is_terminal:
            return
        if not shown and time.monotonic() - start > _PATIENCE:
            bar.start()
            shown = True
        done = {r.number: r.values for r in records if is_evaluated(r) and r.values is not None}
        front = len(evaluator.objectives.front(done))
        bar.update(task, completed=len(done), description=f"searching, {front} on the front")

    try:
        yield watch
    finally:
        if shown:
            bar.stop()
