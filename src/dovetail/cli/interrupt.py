"""Ctrl-C: one line that says what is kept and how to go on, and exit code 130."""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import contextmanager
from typing import Any

import typer
from typer.core import TyperGroup

from dovetail.cli.console import say_error

__all__ = ["INTERRUPTED", "Interruptible", "resumable"]

#: The exit code: 128 + SIGINT, as shells have it.
INTERRUPTED = 130
_NOTHING_KEPT = "nothing was written; the same command starts again"


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

    def invoke(self, ctx: Any) -> Any:
        """Run the command that was asked for."""
        try:
            return super().invoke(ctx)
        except KeyboardInterrupt as stop:
            say_error(f"interrupted; {str(stop) or _NOTHING_KEPT}")
            raise typer.Exit(INTERRUPTED) from None
