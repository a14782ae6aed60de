"""How the command line speaks: tables on standard output, errors on standard error."""

from __future__ import annotations

import json
import math
import os
import sys
from typing import Any

from rich import box
from rich.console import Console
from rich.table import Table
from rich.text import Text

__all__ = [
    "NONE",
    "decibels",
    "percent",
    "ratio",
    "say",
    "say_error",
    "say_json",
    "spelt",
    "table",
    "width",
]

#: What a table shows for a value that does not exist.
NONE = "–"


def width() -> int:
    """Columns to fill: the terminal's, else `COLUMNS`, else 100 (a file has no width)."""
    columns = os.environ.get("COLUMNS", "")
    if columns.isdecimal() and int(columns) > 0:
        return int(columns)
    return os.get_terminal_size(sys.stdout.fileno()).columns if sys.stdout.isatty() else 100


def _console(*, stderr: bool = False) -> Console:
    return Console(stderr=stderr, highlight=False, width=width())


def say(*renderables: Any) -> None:
    """Print text or tables for a person. Text is printed as it is, without markup."""
    console = _console()
    for item in renderables:
        if isinstance(item, str):
            console.print(Text(item), soft_wrap=True)
        else:
            console.print(item)


def say_json(value: Any) -> None:
    """Print a value for a machine: strict JSON and nothing else."""
    sys.stdout.write(json.dumps(value, indent=1, allow_nan=False) + "\n")


def say_error(message: str) -> None:
    """Print what went wrong, in red where there is a colour to be had."""
    text = Text.assemble(("error: ", "bold red"), (message, "red"))
    _console(stderr=True).print(text, soft_wrap=True)


def table(title: str, *columns: str, caption: str | None = None) -> Table:
    """An empty table; a column whose name starts with '>' is right-aligned."""
    result = Table(
        title=title,
        title_justify="left",
        title_style="bold",
        caption=caption,
        caption_justify="left",
        box=box.SIMPLE_HEAD,
        pad_edge=False,
        show_edge=False,
        collapse_padding=True,
        header_style="dim",
    )
    for name in columns:
        right = name.startswith(">")
        result.add_column(
            name.removeprefix(">"),
            justify="right" if right else "left",
            no_wrap=right,
            overflow="fold",
            vertical="top",
        )
    return result


def percent(share: float | None, digits: int = 1) -> str:
    """
    >>> percent(0.9756), percent(None)
    ('97.6 %', '–')
    """
    return NONE if share is None else f"{100 * share:.{digits}f} %"


def decibels(value: float | None) -> str:
    """
    >>> decibels(22.34), decibels(float("inf")), decibels(None)
    ('22.3', 'exact', '–')
    """
    if value is None or math.isnan(value):
        return NONE
    return "exact" if value == math.inf else f"{value:.1f}"


def ratio(value: float | None) -> str:
    """
    >>> ratio(0.6512)
    '0.65'
    """
    return NONE if value is None else f"{value:.2f}"


def spelt(value: Any) -> str:
    """
    >>> spelt(0.1234567), spelt(True), spelt(None), spelt(8)
    ('0.123457', 'yes', '–', '8')
    """
    if value is None:
        return NONE
    if isinstance(value, bool):
        return "yes" if value else "no"
    return f"{value:.6g}" if isinstance(value, float) else str(value)
