"""An operand's values as a histogram, with the range and the grid of the format it is cast to."""

from __future__ import annotations

import math
from collections.abc import Iterator, Mapping, Sequence
from typing import Any, NamedTuple

from dovetail.analysis.figures.drawing import Area, Box, Drawing, Line, Mark, Words, fitted
from dovetail.analysis.figures.scale import Scale, short, ticks
from dovetail.errors import DovetailError

__all__ = ["grid", "histogram"]

_HEIGHT, _TOP, _FOOT, _LEFT = 156.0, 42.0, 36.0, 34.0
_NEAREST = 3.0  # pixels between two places of a grid that can still be told apart


def histogram(found: Mapping[str, Any], width: float = 320, *, bare: bool = False) -> Drawing:
    """Counts on a logarithmic scale, blue inside the format's range and orange outside it.

    ``bare`` draws outlines that say nothing to who points at them, and take a fifth of the room.
    """
    edges, counts = found["edges"], found["counts"]
    low, high = found["low"], found["high"]
    known = low is not None and high is not None
    left, right = _seen(edges[0], edges[-1], low if known else None, high if known else None)
    across = Scale(left, right, _LEFT, width - 8)
    base = _TOP + _HEIGHT - _FOOT
    up = Scale(0.0, math.log1p(max(counts, default=0)) or 1.0, base, _TOP)
    bars = [
        _Bar(a, b, count, up(math.log1p(count)), not known or low <= (a + b) / 2 <= high)
        for count, a, b in zip(counts, edges, edges[1:], strict=False)
        if count
    ]
    marks = _counts(max(counts, default=0), up, width)
    marks += _outlines(bars, across, base) if bare else _boxes(bars, across, base)
    marks.append(Line(((_LEFT, base), (width - 8, base)), "soft"))
    if known:
        marks += _range(found, across, base)
    marks += [
        Words(across(value), base + 24, short(value), _anchor(across(value), width), size=11)
        for value in ticks(left, right, 5)
    ]
    name, form = f"{found['op']} {found['slot']}", _format(found)
    marks.append(Words(8, 14, fitted(name, width - 16, 12), "start", "ink", bold=True, tip=name))
    marks.append(Words(8, 29, fitted(form, width - 16, 11), size=11, tip=form))
    return Drawing(width, _TOP + _HEIGHT - 6, f"values of {name}: {form}", tuple(marks))


class _Bar(NamedTuple):
    start: float
    end: float
    values: int
    top: float
    inside: bool

    @property
    def colour(self) -> str:
        return "blue" if self.inside else "orange"


def _format(found: Mapping[str, Any]) -> str:
    """The format and its range, where that is one."""
    if found["format"] is None:
        return "not cast"
    if found["low"] is None or found["high"] is None:
        return f"{found['format']}, in several ranges"
    return f"{found['format']}, {short(found['low'])} to {short(found['high'])}"


def _counts(most: int, up: Scale, width: float) -> list[Mark]:
    """The axis of counts: powers of ten, every second one where there are many."""
    last = len(str(most)) - 1 if most else 0
    marks: list[Mark] = []
    for power in range(0, last + 1, 1 if last < 4 else 2):
        y = up(math.log1p(10.0**power))
        marks.append(Line(((_LEFT, y), (width - 8, y))))
        marks.append(Words(_LEFT - 5, y + 4, short(10.0**power), "end", size=10))
    return marks


def _boxes(bars: Sequence[_Bar], across: Scale, base: float) -> Iterator[Mark]:
    total = sum(bar.values for bar in bars)
    for bar in bars:
        share = f"{100 * bar.values / total:.3g} %"
        tip = f"{short(bar.start)} to {short(bar.end)}: {bar.values:,} ({share})"
        x = across(bar.start)
        wide = max(across(bar.end) - x - 0.4, 0.6)
        yield Box(x, bar.top, wide, base - bar.top, bar.colour, tip=tip)


def _outlines(bars: Sequence[_Bar], across: Scale, base: float) -> Iterator[Mark]:
    """One area for all bars of a colour that touch."""
    run: list[_Bar] = []
    for bar in bars:
        if run and (bar.start, bar.inside) != (run[-1].end, run[-1].inside):
            yield _outline(run, across, base)
            run = []
        run.append(bar)
    if run:
        yield _outline(run, across, base)


def _outline(run: Sequence[_Bar], across: Scale, base: float) -> Area:
    tops = [(across(x), bar.top) for bar in run for x in (bar.start, bar.end)]
    return Area(((tops[0][0], base), *tops, (tops[-1][0], base)), run[0].colour)


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
