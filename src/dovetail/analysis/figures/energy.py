"""Where the energy goes: multiplying, accumulating and memory of every operation."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

from dovetail._plain import energy, energy_unit, number
from dovetail.analysis.figures.drawing import Box, Drawing, Line, Mark, Words, fitted
from dovetail.analysis.figures.scale import Scale, short, ticks

__all__ = ["energy_bars"]

_ROW, _TOP, _FOOT = 24.0, 30.0, 40.0
_PARTS = (
    ("multiply_pj", "multiplying", "blue"),
    ("accumulate_pj", "accumulating", "orange"),
    ("memory_pj", "memory", "gray"),
)


def energy_bars(cost: Mapping[str, Any], width: float = 680) -> Drawing:
    """One bar for each operation of ``CostReport.to_dict()``, for the batch.

    A part that is not known is left out, and the bar ends in a question mark.
    """
    rows = cost["rows"]
    names = min(0.34 * width, 18 + 7.2 * max((len(row["key"]) for row in rows), default=0))
    longest = max((sum(_known(row).values()) for row in rows), default=0.0)
    across = Scale(0.0, longest or 1.0, names, width - 64)
    bottom = _TOP + _ROW * len(rows)
    marks: list[Mark] = []
    x = names
    for _, what, colour in _PARTS:
        marks.append(Box(x, 7, 11, 11, colour, round=2))
        marks.append(Words(x + 16, 17, what, size=11))
        x += 28 + 6.3 * len(what)
    unit, size = energy_unit(across.high)
    for value in ticks(0.0, across.high / size, 5 if width > 480 else 3):
        at = across(value * size)
        marks.append(Line(((at, _TOP), (at, bottom)), "line"))
        marks.append(Words(at, bottom + 17, short(value), "middle", size=11))
    marks.append(
        Words((names + across.end) / 2, bottom + 34, f"{unit} for one batch", "middle", size=11)
    )
    for index, row in enumerate(rows):
        y = _TOP + index * _ROW
        tip = row["key"]
        marks.append(Words(names - 8, y + 16, fitted(tip, names - 10), "end", "ink", tip=tip))
        marks += _bar(row, across, y + 4)
    label = "energy of every operation: multiplying, accumulating, memory"
    return Drawing(width, bottom + _FOOT, label, tuple(marks))


def _bar(row: Mapping[str, Any], across: Scale, y: float) -> list[Mark]:
    known, done = _known(row), 0.0
    marks: list[Mark] = []
    for name, what, colour in _PARTS:
        if known.get(name):
            start, end = across(done), across(done + known[name])
            tip = f"{row['key']}, {what}: {energy(known[name])}"
            marks.append(Box(start, y, end - start, 16, colour, tip=tip))
            done += known[name]
    text = energy(done) + ("" if len(known) == len(_PARTS) else " + ?")
    return [*marks, Words(across(done) + 6, y + 13, text, size=11)]


def _known(row: Mapping[str, Any]) -> dict[str, float]:
    found = {name: number(row[name]) for name, *_ in _PARTS}
    return {name: value for name, value in found.items() if value is not None}
