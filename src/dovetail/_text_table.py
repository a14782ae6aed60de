"""Tables of plain text whose numbers are never cut: what has no room is left out, which is said."""

from __future__ import annotations

import io
from collections.abc import Sequence
from dataclasses import dataclass, field

from rich.console import Console
from rich.table import Table

__all__ = ["Column", "text_table"]

_GAP = 2


@dataclass
class Column:
    """A column under a name of one line or several; words fold to ``least`` characters, numbers,
    which have none, stand at the right and stay whole."""

    name: str
    least: int | None = None
    cells: list[str] = field(default_factory=list)

    @property
    def natural(self) -> int:
        """How wide it is where there is room."""
        return max(len(line) for text in (self.name, *self.cells) for line in text.split("\n"))

    @property
    def smallest(self) -> int:
        """How narrow it may become; its name stays whole."""
        name = max(map(len, self.name.split("\n")))
        return self.natural if self.least is None else max(name, min(self.least, self.natural))


def text_table(columns: Sequence[Column], width: int, spare: Sequence[str] = ()) -> str:
    """The columns side by side, ``width`` characters wide: without those named ``spare``, the first
    of them first, where there is no room for all.

    >>> numbers = Column("macs", None, ["12"]), Column("J", None, ["3"])
    >>> columns = [Column("op", 4, ["conv1"]), *numbers]
    >>> print(text_table(columns, 20, ["macs"]))
    op     macs  J
    conv1    12  3
    >>> print(text_table(columns, 9, ["macs"]))
    op     J
    conv1  3
    (without macs, for want of width)
    """
    left_out = []
    shown = list(columns)
    for name in spare:
        if _needed(shown) <= width:
            break
        shown = [column for column in shown if column.name != name]
        left_out.append(name)
    table = Table(box=None, pad_edge=False, padding=(0, _GAP, 0, 0), header_style="bold")
    room = width - _needed(shown)
    for column in shown:
        more = max(0, min(room, column.natural - column.smallest))
        room -= more
        table.add_column(
            column.name,
            justify="right" if column.least is None else "left",
            no_wrap=column.least is None,
            overflow="fold",
            width=column.smallest + more,
        )
    for cells in zip(*(column.cells for column in shown), strict=True):
        table.add_row(*cells)
    out = io.StringIO()
    Console(file=out, width=max(width, _needed(shown)) + _GAP, color_system=None).print(table)
    lines = [line.rstrip() for line in out.getvalue().splitlines()]
    if left_out:
        names = ", ".join(name.replace("\n", " ") for name in left_out)
        lines.append(f"(without {names}, for want of width)")
    return "\n".join(lines)


def _needed(columns: Sequence[Column]) -> int:
    return sum(column.smallest for column in columns) + _GAP * (len(columns) - 1)
