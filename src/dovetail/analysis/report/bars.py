"""Bars of the page that are as wide as it is: their places in per cent."""

from __future__ import annotations

import math
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Any

from dovetail._plain import number
from dovetail.analysis.report.words import db, percent

__all__ = ["layer_bars", "stage_bar"]


@dataclass(frozen=True)
class _Bar:
    """A bar from ``start`` of length ``length``, in per cent of the figure's width."""

    start: float
    length: float
    label: str


def stage_bar(stage: Mapping[str, Any]) -> dict[str, Any]:
    """A stage with the whisker of its interval."""
    seen = stage["accuracy"]
    return {
        "stage": stage,
        "bar": _Bar(0, 100 * seen["value"], percent(seen["value"])),
        "whisker": _Bar(100 * seen["low"], 100 * (seen["high"] - seen["low"]), ""),
    }


def layer_bars(rows: Sequence[Mapping[str, Any]]) -> dict[str, Any]:
    """SQNR bars of every layer on one scale that starts at 0 dB or below."""
    values = [number(v) for row in rows for v in (row["isolated_db"], row["accumulated_db"])]
    finite = [v for v in values if v is not None and math.isfinite(v)]
    low = min(0.0, *finite) if finite else 0.0
    high = max(1.0, *finite) if finite else 1.0
    low, high = 10 * math.floor(low / 10), 10 * math.ceil(high / 10)

    def place(value: float) -> float:
        return 100 * (min(max(value, low), high) - low) / (high - low)

    def bar(given: Any) -> _Bar:
        value = number(given)
        zero, end = place(0), place(0 if value is None or math.isnan(value) else value)
        return _Bar(min(zero, end), abs(end - zero), db(value))

    return {
        "rows": [(row, bar(row["isolated_db"]), bar(row["accumulated_db"])) for row in rows],
        "ticks": [(place(v), v) for v in range(low, high + 1, 10 if high - low <= 60 else 20)],
        "zero": place(0),
    }
