"""What a run says while it works: one status line on standard error, gone when it is done."""

from __future__ import annotations

from collections.abc import Callable, Iterable, Iterator
from contextlib import contextmanager
from typing import TypeVar

from rich.console import Console
from rich.progress import BarColumn, Progress, SpinnerColumn, TextColumn, TimeElapsedColumn

__all__ = ["Steps"]

T = TypeVar("T")


class Steps:
    """The steps of a run. Silent when `show` is false or standard error is no terminal.

    >>> steps = Steps(show=False)
    >>> with steps.step("measuring"):
    ...     list(steps.over([1, 2]))
    [1, 2]
    """

    def __init__(self, *, show: bool) -> None:
        console = Console(stderr=True)
        self.shown = show and console.is_terminal
        self._bar = Progress(
            SpinnerColumn(),
            TextColumn("{task.description}"),
            BarColumn(bar_width=30),
            TimeElapsedColumn(),
            console=console,
            transient=True,
            disable=not self.shown,
        )

    @contextmanager
    def step(self, text: str) -> Iterator[None]:
        """Show `text` while the body runs."""
        with self._bar:
            task = self._bar.add_task(text, total=None)
            try:
                yield
            finally:
                self._bar.remove_task(task)

    @contextmanager
    def counted(self, text: str) -> Iterator[Callable[[int, int | None], None]]:
        """Show `text` while the body runs, and how many of how many it says are done.

        >>> with Steps(show=False).counted("attributing") as tell:
        ...     tell(1, 2)
        """
        with self.step(text):

            def tell(done: int, total: int | None) -> None:
                self._bar.update(self._bar.task_ids[-1], total=total, completed=done)

            yield tell

    def over(self, items: Iterable[T]) -> Iterator[T]:
        """The items, the bar of the current step advancing with them."""
        try:
            total: int | None = len(items)  # type: ignore[arg-type]
        except TypeError:
            total = None
        task = self._bar.task_ids[-1] if self._bar.task_ids else None
        for done, item in enumerate(items):
            if task is not None:
                self._bar.update(task, total=total, completed=done)
            yield item
