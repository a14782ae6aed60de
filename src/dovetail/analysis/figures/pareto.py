"""Designs on the plane of two objectives, and the front of those that no other one beats."""

from __future__ import annotations

import math
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from typing import Any

from dovetail.analysis.figures.drawing import Dot, Drawing, Line, Mark, Words
from dovetail.analysis.figures.scale import Scale, short, ticks

__all__ = ["Design", "pareto"]


@dataclass(frozen=True)
class Design:
    """One trial of a search: what it reached, with which parameters, and whether on the front."""

    name: str
    objectives: Mapping[str, float]
    parameters: Mapping[str, Any] = field(default_factory=dict)
    front: bool = True


def pareto(
    designs: Sequence[Design], x: str, y: str, *, directions: Mapping[str, str], width: float = 680
) -> Drawing:
    """The designs by their objectives ``x`` and ``y``; a line joins those of the front.

    ``directions`` says of each objective ``max`` or ``min``. A design without a finite value of
    both is left out.
    """
    shown = [d for d in designs if all(math.isfinite(d.objectives[name]) for name in (x, y))]
    height = 0.42 * width if width > 480 else 0.8 * width
    left, foot, top = 62.0, 44.0, 16.0
    across = _scale([d.objectives[x] for d in shown], left, width - 14)
    up = _scale([d.objectives[y] for d in shown], height - foot, top)
    marks: list[Mark] = []
    for value in ticks(across.low, across.high, 7 if width > 480 else 4):
        marks.append(Line(((across(value), top), (across(value), height - foot)), "line"))
        marks.append(Words(across(value), height - foot + 17, short(value), "middle", size=11.5))
    for value in ticks(up.low, up.high, 6):
        marks.append(Line(((left, up(value)), (width - 14, up(value))), "line"))
        marks.append(Words(left - 7, up(value) + 4, short(value), "end", size=11.5))
    arrow = {"max": "higher is better", "min": "lower is better"}
    marks.append(Words((left + width) / 2, height - 6, f"{x}, {arrow[directions[x]]}", "middle"))
    place = (14.0, (top + height - foot) / 2)
    marks.append(Words(*place, f"{y}, {arrow[directions[y]]}", "middle", turn=-90))
    front = sorted((d for d in shown if d.front), key=lambda d: d.objectives[x])
    if len(front) > 1:
        path = tuple((across(d.objectives[x]), up(d.objectives[y])) for d in front)
        marks.append(Line(path, "blue", 1.6))
    for design in sorted(shown, key=lambda d: d.front):
        spot = across(design.objectives[x]), up(design.objectives[y])
        radius, colour, opacity = (5.0, "blue", 1.0) if design.front else (3.5, "soft", 0.45)
        marks.append(Dot(*spot, radius, colour, opacity, _tip(design)))
    label = f"{y} against {x} of {len(shown)} designs, {len(front)} of them on the front"
    return Drawing(width, height, label, tuple(marks))


def _scale(values: Sequence[float], start: float, end: float) -> Scale:
    low, high = min(values, default=0.0), max(values, default=1.0)
    room = 0.06 * (high - low) or 0.06 * abs(high) or 1.0
    return Scale(low - room, high + room, start, end)


def _tip(design: Design) -> str:
    lines = [f"{design.name}{', on the front' if design.front else ''}"]
    lines += [f"{name} {value:.6g}" for name, value in design.objectives.items()]
    lines += [f"{name} = {value}" for name, value in design.parameters.items()]
    return "\n".join(lines)
