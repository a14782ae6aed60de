"""An operand's values as a histogram, with the range and the grid of the format it is cast to."""

from __future__ import annotations

import math
from collections.abc import Mapping, Sequence
from typing import Any

from dovetail.analysis.figures.drawing import Box, Drawing, Line, Mark, Words, fitted
from dovetail.analysis.figures.scale import Scale, short, ticks
from dovetail.errors import DovetailError

__all__ = ["grid", "histogram"]

_HEIGHT, _TOP, _FOOT = 150.0, 34.0, 36.0
_NEAREST = 3.0  # pixels between two places of a grid that can still be told apart


def histogram(found: Mapping[str, Any], width: float = 320) -> Drawing:
    """Counts on a logarithmic scale, blue inside the format's range and orange outside it."""
    edges, counts = found["edges"], found["counts"]
    low, high = found["low"], found["high"]
    known = low is not None and high is not None
    left, right = _seen(edges[0], edges[-1], low if known else None, high if known else None)
    across = Scale(left, right, 8, width - 8)
    base = _TOP + _HEIGHT - _FOOT
    up = Scale(0.0, math.log1p(max(counts, default=0)) or 1.0, base, _TOP)
    total = sum(counts) or 1
    marks: list[Mark] = []
    for count, start, end in zip(counts, edges, edges[1:], strict=False):
        if count:
            x, top = across(start), up(math.log1p(count))
            inside = not known or (low <= (start + end) / 2 <= high)
            tip = f"{short(start)} to {short(end)}: {count:,} ({100 * count / total:.3g} %)"
            wide = max(across(end) - x - 0.4, 0.6)
            marks.append(Box(x, top, wide, base - top, "blue" if inside else "orange", tip=tip))
    marks.append(Line(((8, base), (width - 8, base)), "soft"))
    if known:
        marks += _range(found, across, base)
    marks += [
        Words(across(value), base + 24, short(value), _anchor(across(value), width), size=11)
        for value in ticks(left, right, 5)
    ]
    name = f"{found['op']} {found['slot']}"
    form = found["format"] or "not cast"
    form += f", {short(low)} to {short(high)}" if known else ""
    marks.append(Words(8, 14, fitted(name, width - 16, 12), "start", "ink", bold=True, tip=name))
    marks.append(Words(8, 29, fitted(form, width - 16, 11), size=11, tip=form))
    return Drawing(width, _TOP + _HEIGHT - 6, f"values of {name}: {form}", tuple(marks))


def _seen(start: float, end: float, low: float | None, high: float | None) -> tuple[float, float]:
    """The part of the axis to show: the values, and the format's ends where they are near."""
    span = 1.5 * (end - start) or 1.0
    near = [v for v in (low, high) if v is not None and start - span <= v <= end + span]
    return min([start, *near]), max([end, *near])


def _range(found: Mapping[str, Any], across: Scale, base: float) -> list[Mark]:
    """The ends of the format where they are not far outside, and the values between them."""
    low, high = found["low"], found["high"]
    marks: list[Mark] = [
        Line(((across(end), _TOP - 2), (across(end), base + 9)), "ink", 1.2, dashed=True)
        for end in (low, high)
        if across.low <= end <= across.high
    ]
    seen = [v for v in grid(found["format"], low, high) if across.low <= v <= across.high]
    return marks + _teeth([across(v) for v in seen], base)


def _teeth(places: Sequence[float], base: float) -> list[Mark]:
    """A line at each place; a bar where they are too close to be told apart."""
    runs: list[list[float]] = []
    for place in places:
        if runs and place - runs[-1][-1] < _NEAREST:
            runs[-1].append(place)
        else:
            runs.append([place])
    return [
        Box(run[0] - 0.5, base + 2, run[-1] - run[0] + 1, 6, "soft", 1.0 if len(run) < 2 else 0.5)
        for run in runs
    ]


def grid(name: str | None, low: float, high: float) -> Sequence[float]:
    """The values of the format ``name`` from ``low`` to ``high``; none where it has too many.

    An integer format's are evenly spread between the ends, which its scale has set.

    >>> grid("int3", -3.0, 3.0)
    [-3.0, -2.0, -1.0, 0.0, 1.0, 2.0, 3.0]
    >>> grid("fp4_e2m1fn", -6.0, 6.0)[-3:], grid("fp32", -1.0, 1.0)
    ([3.0, 4.0, 6.0], [])
    """
    from dovetail.formats import ElementFormat, IntFormat
    from dovetail.formats import format as to_format
    from dovetail.formats.values import values_of

    try:
        fmt = None if name is None else to_format(name)
    except DovetailError:  # a format that another program has registered
        return []
    if isinstance(fmt, IntFormat):
        steps = fmt.qmax - fmt.qmin
        return [low + (high - low) * k / steps for k in range(steps + 1)] if steps < 4096 else []
    if isinstance(fmt, ElementFormat) and fmt.bits <= 12:
        return [v for v in values_of(fmt) or () if low <= v <= high]
    return []


def _anchor(x: float, width: float) -> str:
    return "start" if x < 24 else "end" if x > width - 24 else "middle"
