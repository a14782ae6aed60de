"""Tables of ratios on the screen and as Markdown in ``results/``."""

from __future__ import annotations

import os
import platform
from collections.abc import Callable, Mapping, Sequence
from functools import partial
from pathlib import Path

import torch
from rich.console import Console
from rich.progress import Progress
from rich.table import Table

from dovetail.kernels import native

#: For tables that are timed by `timing.clock_of`.
CLOCKS = "One thread: processor time; more: time on the wall."
RESULTS = Path(__file__).parent / "results"


def limits(where: str, bounds: Mapping[str, float]) -> str:
    """A line that says what the ratios should stay under."""
    return f"Limits on {where}: " + ", ".join(f"{k} {v}" for k, v in bounds.items()) + "."


def markdown(title: str, about: Sequence[str], tables: Sequence[Table]) -> str:
    """The tables as Markdown, under a title and lines that say where and how they were taken."""
    where = (
        f"{platform.machine()}, {os.cpu_count()} cores, levels {', '.join(native.levels())}, "
        f"torch {torch.__version__}; medians of interleaved runs."
    )
    lines = [f"# {title}", "", where, *about]
    for table in tables:
        lines += ["", f"## {table.title}", "", _row([column.header for column in table.columns])]
        lines.append("|" + "---|" * len(table.columns))
        cells = zip(*(column.cells for column in table.columns), strict=True)
        lines += [_row(row) for row in cells]
    return "\n".join(lines) + "\n"


def _row(cells: Sequence[object]) -> str:
    # rich escapes an opening bracket, Markdown a bar.
    plain = (str(cell).replace(r"\[", "[").replace("|", r"\|") for cell in cells)
    return "| " + " | ".join(plain) + " |"


def _with_threads(count: int, measure: Callable[[], Table]) -> Table:
    """Measure with so many threads; their number and the level are then what they were."""
    before = torch.get_num_threads()
    torch.set_num_threads(count)
    try:
        return measure()
    finally:
        native.set_isa(None)
        torch.set_num_threads(before)


def run(
    name: str,
    title: str,
    about: Sequence[str],
    measure: Callable[[int, Progress], Table],
    threads: Sequence[int],
    save: bool,
) -> None:
    """Measure for each number of threads, print, and with ``save`` write ``results/NAME.md``."""
    console = Console()
    with Progress(console=console, transient=True) as progress:
        tables = [_with_threads(count, partial(measure, count, progress)) for count in threads]
    for table in tables:
        console.print(table)
    if save:
        RESULTS.mkdir(exist_ok=True)
        (RESULTS / f"{name}.md").write_text(markdown(title, about, tables))
