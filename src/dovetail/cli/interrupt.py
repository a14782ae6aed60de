"""Ctrl-C: one line that says what is kept and how to go on, and exit code 130."""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import contextmanager
from typing import Any

import typer
from typer.core import TyperGroup

from dovetail.cli.console import say_error
from dovetail.cli.signals import INTERRUPTED, NOTHING_KEPT, interrupted

__all__ = ["Interruptible", "resumable"]

_UNKNOWN = "give the same command again"


@contextmanager
def resumable(how: str) -> Iterator[None]:
    """Say `how` to go on if the body is interrupted.

    >>> try:
    ...     with resumable("the same command goes on with trial 12"):
    ...         raise KeyboardInterrupt
    ... except KeyboardInterrupt as stop:
    ...     print(stop)
    the same command goes on with trial 12
    """
    try:
        yield
    except KeyboardInterrupt as stop:
        raise KeyboardInterrupt(*(stop.args or (how,))) from None


class Interruptible(TyperGroup):
    """A group of commands that ends in one line when it is interrupted."""

    def make_context(self, *args: Any, **kwargs: Any) -> Any:
        """Read the arguments."""
        with _ended_in_a_line():
            return super().make_context(*args, **kwargs)

    def invoke(self, ctx: Any) -> Any:
        """Run the command that was asked for."""
        with _ended_in_a_line():
            return super().invoke(ctx)


@contextmanager
def _ended_in_a_line() -> Iterator[None]:
    try:
        yield
        return
    except KeyboardInterrupt as stop:
        how = str(stop) or NOTHING_KEPT
    except Exception:
        if not interrupted():
            raise
        how = _UNKNOWN
    say_error(f"interrupted; {how}")
    raise typer.Exit(INTERRUPTED)
