"""The attribution as a map: operations downward, sources of error to the right."""

from __future__ import annotations

import math
from collections.abc import Mapping, Sequence
from typing import Any

from dovetail._plain import number
from dovetail.analysis.attribution import SOURCES
from dovetail.analysis.figures.drawing import Box, Drawing, Mark, Words, fitted
from dovetail.analysis.figures.scale import short

__all__ = ["change_map", "in_points", "noise_map"]

_ROW, _HEAD = 24.0, 30.0
_TOGETHER = "together"
_LETTER = 6.5  # pixels, on the safe side


def change_map(
    attribution: Mapping[str, Any], width: float = 680, *, disabled: bool = False
) -> Drawing:
    """What each source alone changes in the metric: orange where it harms, blue where it helps.

    The last column is all of an operation's sources together, where that was measured. With
    ``disabled``: what making them exact changes in the emulated network. Pale and in brackets:
    the confidence interval holds no change.
    """
    prefix = "disabled_" if disabled else ""
    name = f"{prefix}delta_metric"
    rows = [*attribution["rows"], *_together(attribution)]
    better = attribution["higher_is_better"]
    points = 100.0 if in_points(attribution) else 1.0
    sign = -1.0 if better is not False else 1.0
    most = max((abs(number(row[name]) or 0.0) for row in rows), default=0.0) or 1.0

    def cell(row: Mapping[str, Any]) -> tuple[str, float, str]:
        delta = number(row[name])
        if delta is None or math.isnan(delta):
            return "track", 1.0, "–"
        role = "orange" if delta * sign > 0 else "blue"
        text, full = _signed(points * delta, 2), 0.12 + 0.83 * min(1.0, abs(delta) / most)
        if delta == 0:
            return role, 0.0, text
        if _holds_zero(row[f"{prefix}ci_low"], row[f"{prefix}ci_high"]):
            return role, min(full, 0.2), f"({text})"
        return role, full, text

    unit = " in percentage points" if points > 1 else ""
    how = "made exact alone" if disabled else "alone"
    what = f"change of {attribution['metric']}{unit} by each source of error {how}"
    return _map(rows, cell, what, width)


def _together(attribution: Mapping[str, Any]) -> list[dict[str, Any]]:
    """Rows of whole operations, as those of their sources."""
    shared = {"source": _TOGETHER, "value": "", "with_sources": ()}
    return [{**op, **shared} for op in attribution["ops"] if op["delta_metric"] is not None]


def _holds_zero(low: Any, high: Any) -> bool:
    low, high = number(low), number(high)
    return low is not None and high is not None and low <= 0 <= high


def in_points(attribution: Mapping[str, Any]) -> bool:
    """Whether the metric is a share, whose changes are told in percentage points."""
    return str(attribution["metric"]) == "accuracy"


def noise_map(attribution: Mapping[str, Any], width: float = 680) -> Drawing:
    """The SQNR of the network's output with each source alone: the fuller, the more noise."""
    rows = attribution["rows"]
    known = [_finite(row["accumulated_sqnr_db"]) for row in rows]
    finite = [value for value in known if value is not None]
    low, high = (min(finite), max(finite)) if finite else (0.0, 1.0)

    def cell(row: Mapping[str, Any]) -> tuple[str, float, str]:
        value = number(row["accumulated_sqnr_db"])
        if value is None or math.isnan(value):
            return "track", 1.0, "–"
        if value == math.inf:
            return "orange", 0.0, "exact"
        share = (high - max(value, low)) / ((high - low) or 1.0)
        return "orange", 0.08 + 0.87 * share, f"{value:.1f}".replace("-", "−")

    return _map(rows, cell, "SQNR in dB of the output with one source of error alone", width)


def _map(rows: Sequence[Mapping[str, Any]], cell: Any, what: str, width: float) -> Drawing:
    present = {row["source"] for row in rows}
    sources = [source for source in (*SOURCES, _TOGETHER) if source in present]
    ops = list(dict.fromkeys(row["op"] for row in rows))
    found = {(row["op"], row["source"]): row for row in rows}
    names = min(0.34 * width, 18 + 7.2 * max((len(op) for op in ops), default=0))
    column = min(150.0, (width - names) / max(1, len(sources)))
    size = 12.0 if column >= 52 else 10.5
    turned = any(7 * len(source) > column for source in sources)
    top = 58.0 if turned else _HEAD
    # A turned word leans over the edge of the last column.
    right = max(0.0, 0.72 * _LETTER * len(sources[-1]) - column / 2) + 6 if turned else 0.0
    column = min(column, (width - names - right) / max(1, len(sources)))
    marks: list[Mark] = []
    for j, source in enumerate(sources):
        middle = names + (j + 0.5) * column
        if turned:
            marks.append(Words(middle, top - 8, source, "start", size=size, turn=-45))
        else:
            marks.append(Words(middle, top - 10, source, "middle", size=size))
    for i, op in enumerate(ops):
        y = top + i * _ROW
        shown = fitted(op, names - 10, size)
        tip = op if shown != op else ""
        marks.append(Words(names - 8, y + 16, shown, "end", "ink", size, tip=tip))
        for j, source in enumerate(sources):
            row = found.get((op, source))
            if row is not None:
                marks += _cell(names + j * column, y, column, size, row, cell(row))
    total = min(width, names + column * len(sources) + right)
    return Drawing(total, top + _ROW * len(ops) + 2, what, tuple(marks))


def _cell(
    x: float,
    y: float,
    column: float,
    size: float,
    row: Mapping[str, Any],
    shown: tuple[str, float, str],
) -> list[Mark]:
    role, opacity, text = shown
    place = (x + 1, y + 1, column - 2, _ROW - 2)
    colour = f"on-{role}" if opacity > 0.6 and role != "track" else "ink"
    fits = 0.58 * size * len(text) <= column - 4
    return [
        Box(*place, "track", round=3),
        Box(*place, role, opacity, round=3, tip=_tip(row)),
        *([Words(x + column / 2, y + 16, text, "middle", colour, size)] if fits else []),
    ]


def _tip(row: Mapping[str, Any]) -> str:
    lines = [f"{row['op']}: {row['source']} {row['value']}".rstrip()]
    lines.append(f"change alone {_signed(number(row['delta_metric']))}")
    low, high = number(row["ci_low"]), number(row["ci_high"])
    if low is not None and high is not None:
        lines[-1] += f", 95 % {_signed(low)} to {_signed(high)}"
    exact = number(row["disabled_delta_metric"])
    if exact is not None:
        others = f" (with {', '.join(row['with_sources'])})" if row["with_sources"] else ""
        lines.append(f"made exact{others} {_signed(exact)}")
    if row["source"] == _TOGETHER:
        return "\n".join(lines)
    alone, output = number(row["isolated_sqnr_db"]), number(row["accumulated_sqnr_db"])
    lines.append(f"SQNR alone {_decibels(alone)}, of the output {_decibels(output)}")
    return "\n".join(lines)


def _signed(value: float | None, digits: int = 3) -> str:
    if value is None or math.isnan(value):
        return "–"
    return "0" if value == 0 else ("+" if value > 0 else "") + short(value, digits)


def _decibels(value: float | None) -> str:
    if value is None or math.isnan(value):
        return "–"
    return "exact" if value == math.inf else f"{value:.1f} dB".replace("-", "−")


def _finite(value: Any) -> float | None:
    found = number(value)
    return found if found is not None and math.isfinite(found) else None
