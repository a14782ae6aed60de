"""Designs on the plane of two objectives, and the front of those that no other one beats."""

from __future__ import annotations

import itertools
import math
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field

from dovetail.analysis.figures.drawing import Dot, Drawing, Line, Mark, Words
from dovetail.analysis.figures.scale import Scale, labelled

__all__ = ["Design", "pareto"]

_FOOT, _TOP, _RIGHT = 44.0, 22.0, 14.0
_LETTER = 6.7  # of a label
_LINE = 14.0
_BETTER = {"max": "higher is better", "min": "lower is better"}


@dataclass(frozen=True)
class Design:
    """One trial of a search: its figures, its choices, whether it is on the front, and whether it
    keeps every constraint."""

    number: int
    values: Mapping[str, float]
    choices: Mapping[str, str] = field(default_factory=dict)
    front: bool = True
    feasible: bool = True


def pareto(
    designs: Sequence[Design], directions: Mapping[str, str], *, along: str = "", width: float = 680
) -> Drawing:
    """The first objective of ``directions`` upward, ``along`` to the right: by default the second,
    or where there is one only, the number of the trial.

    ``directions`` says of each objective ``max`` or ``min``. Steps join what nothing beats in these
    two: the front, where there are no further objectives. Designs that miss a constraint are
    hollow; one without a finite value of both is left out.
    """
    up, *others = directions
    x = along or next(iter(others), "trial")
    places = {d.number: (_along(d, x), d.values[up]) for d in designs}
    shown = [d for d in designs if all(map(math.isfinite, places[d.number]))]
    height = 0.42 * width if width > 480 else 0.8 * width
    legend = _legend(shown, width - _RIGHT)
    top = _TOP + _LINE * (len(legend) - 1)
    upward = _scale([places[d.number][1] for d in shown], height - _FOOT, top)
    longest = max(len(label) for _, label in labelled(upward.low, upward.high))
    across = _scale([places[d.number][0] for d in shown], 35 + _LETTER * longest, width - _RIGHT)
    front = [places[d.number] for d in shown if d.front]
    marks = _axes(across, upward, x, up, directions)
    steps = _steps(front, directions.get(x, "max"), directions[up]) if x in directions else []
    if len(steps) > 1:
        marks.append(Line(tuple((across(a), upward(b)) for a, b in steps), "blue", 1.6))
    for design in sorted(shown, key=lambda d: d.front):
        a, b = places[design.number]
        marks.append(_dot(design, across(a), upward(b)))
    marks += [
        Words(across.end, 13.0 + _LINE * place, line, "end", size=11)
        for place, line in enumerate(legend)
    ]
    label = f"{up} against {x} of {len(shown)} designs, {len(front)} of them on the front"
    return Drawing(width, height, label, tuple(marks))


def _along(design: Design, name: str) -> float:
    return float(design.number) if name == "trial" else design.values[name]


def _steps(
    front: Sequence[tuple[float, float]], along: str, upward: str
) -> list[tuple[float, float]]:
    """The border of what the front beats, from left to right, a corner after each point."""
    x_sign, y_sign = (-1.0 if way == "max" else 1.0 for way in (along, upward))
    best: list[tuple[float, float]] = []
    for x, y in sorted(set(front), key=lambda point: (x_sign * point[0], y_sign * point[1])):
        if not best or y_sign * y < y_sign * best[-1][1]:
            best.append((x, y))
    corners = best[:1]
    for (_, before), (x, y) in itertools.pairwise(best):
        corners += [(x, before), (x, y)]
    return corners[::-1] if along == "max" else corners


def _legend(shown: Sequence[Design], room: float) -> list[str]:
    """What the marks mean, in lines that fit."""
    said = ["blue: on the front"] if any(d.front for d in shown) else []
    said += ["gray: beaten"] if any(d.feasible and not d.front for d in shown) else []
    said += ["hollow: misses a constraint"] if any(not d.feasible for d in shown) else []
    whole = ", ".join(said)
    return [whole] if _LETTER * len(whole) <= room else [", ".join(said[:-1]), said[-1]]


def _axes(
    across: Scale, upward: Scale, x: str, up: str, directions: Mapping[str, str]
) -> list[Mark]:
    bottom, left, right = upward.start, across.start, across.end
    marks: list[Mark] = []
    for value, label in labelled(across.low, across.high, 7 if right > 480 else 4):
        marks.append(Line(((across(value), upward.end), (across(value), bottom)), "line"))
        marks.append(Words(across(value), bottom + 17, label, "middle", size=11.5))
    for value, label in labelled(upward.low, upward.high):
        marks.append(Line(((left, upward(value)), (right, upward(value))), "line"))
        marks.append(Words(left - 7, upward(value) + 4, label, "end", size=11.5))
    words = f"{x}, {_BETTER[directions[x]]}" if x in directions else x
    marks.append(Words((left + right) / 2, bottom + _FOOT - 6, words, "middle"))
    middle = (upward.end + bottom) / 2
    marks.append(Words(14.0, middle, f"{up}, {_BETTER[directions[up]]}", "middle", turn=-90))
    return marks


def _dot(design: Design, x: float, y: float) -> Dot:
    lines = [f"trial {design.number}{', on the front' if design.front else ''}"]
    lines += [f"{name} {value:.6g}" for name, value in design.values.items()]
    lines += [f"{name}: {choice}" for name, choice in design.choices.items()]
    tip = "\n".join(lines)
    if design.front:
        return Dot(x, y, 5.0, "blue", tip=tip)
    return Dot(x, y, 3.5, "soft", 0.5, tip, hollow=not design.feasible)


def _scale(values: Sequence[float], start: float, end: float) -> Scale:
    low, high = min(values, default=0.0), max(values, default=1.0)
    room = 0.06 * (high - low) or 0.06 * abs(high) or 1.0
    return Scale(low - room, high + room, start, end)
