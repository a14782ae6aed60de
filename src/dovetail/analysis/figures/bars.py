"""The layers of a run as bars: SQNR of each operation alone, and of all before it, too."""

from __future__ import annotations

import math
from collections.abc import Mapping, Sequence
from typing import Any

from dovetail._plain import number
from dovetail.analysis.figures.drawing import Box, Drawing, Line, Mark, Words, fitted
from dovetail.analysis.figures.scale import Scale, short, ticks

__all__ = ["layer_bars"]

_ROW, _TOP, _FOOT = 30.0, 30.0, 26.0
_SERIES = (("isolated_db", "blue", "in isolation"), ("accumulated_db", "orange", "accumulated"))


def layer_bars(rows: Sequence[Mapping[str, Any]], width: float = 680) -> Drawing:
    """Two bars for each row of a layer table, in dB from 0 on."""
    names = min(0.34 * width, 14 + 7.2 * max((len(row["key"]) for row in rows), default=0))
    finite = [v for row in rows for name, _, _ in _SERIES if (v := _finite(row[name])) is not None]
    across = Scale(min(0.0, *finite, 0.0), max(1.0, *finite, 1.0), names, width - 48)
    bottom = _TOP + _ROW * len(rows)
    marks: list[Mark] = [
        Box(names, 8, 11, 11, "blue", round=2),
        Words(names + 17, 18, "SQNR in isolation"),
        Box(names + 150, 8, 11, 11, "orange", round=2),
        Words(names + 167, 18, "accumulated"),
    ]
    for value in ticks(across.low, across.high, 6):
        marks.append(Line(((across(value), _TOP), (across(value), bottom)), "line"))
        marks.append(Words(across(value), bottom + 17, f"{short(value)} dB", "middle", size=11))
    for i, row in enumerate(rows):
        y = _TOP + i * _ROW
        marks.append(Words(names - 8, y + 19, fitted(row["key"], names - 12), "end", "ink"))
        for j, (name, colour, words) in enumerate(_SERIES):
            marks += _bar(
                across, y + 4 + 11 * j, number(row[name]), colour, f"{row['key']} {words}"
            )
    marks.append(Line(((across(0), _TOP), (across(0), bottom)), "soft"))
    return Drawing(width, bottom + _FOOT, "SQNR of every layer", tuple(marks))


def _bar(across: Scale, y: float, value: float | None, colour: str, what: str) -> list[Mark]:
    if value is None or math.isnan(value):
        return []
    if math.isinf(value):
        return [Words(across(0) + 5, y + 9, "exact" if value > 0 else "−∞", size=10)]
    start, end = sorted((across(0), across(value)))
    text = f"{value:.1f}".replace("-", "−")
    return [
        Box(start, y, end - start, 10, colour, tip=f"{what}: {text} dB", round=2),
        Words(end + 5, y + 9, text, size=10),
    ]


def _finite(value: Any) -> float | None:
    found = number(value)
    return found if found is not None and math.isfinite(found) else None
