"""The front as a picture: an SVG that needs nothing else."""

from __future__ import annotations

import itertools
import math
from collections.abc import Sequence
from html import escape

from dovetail.search.front import Front, Trial

__all__ = ["svg"]

_WIDTH, _HEIGHT = 640.0, 420.0
_LEFT, _RIGHT, _TOP, _BOTTOM = 72.0, 24.0, 20.0, 56.0
_STYLE = (
    "text{font:13px system-ui,sans-serif;fill:#333}.axis{stroke:#888}.grid{stroke:#e5e5e5}"
    ".other{fill:#9aa4af;fill-opacity:.55}.missed{fill:none;stroke:#9aa4af}"
    ".front{fill:#0b63ce}.line{fill:none;stroke:#0b63ce;stroke-width:1.5}"
)


def svg(front: Front) -> str:
    """The second objective along, the first up, every evaluated design a dot with its figures as
    its title; the front is drawn as steps, and designs that miss a constraint are hollow.

    With one objective the number of the trial is along.
    """
    directions = list(front.objectives.directions)
    up, along = directions[0], directions[1] if len(directions) > 1 else None
    points = {t.number: (_along(t, along), t.values[up]) for t in front.trials}
    shown = {n: p for n, p in points.items() if all(map(math.isfinite, p))}
    xs, ys = _scale([p[0] for p in shown.values()]), _scale([p[1] for p in shown.values()])
    body = [*_axes(xs, ys, along or "trial", up)]
    best = [trial.number for trial in front.points if trial.number in shown]
    places = {n: (_x(xs, x), _y(ys, y)) for n, (x, y) in shown.items()}
    for trial in front.trials:
        if trial.number in places:
            kind = "front" if trial.number in best else "other" if trial.feasible else "missed"
            body.append(_dot(trial, places[trial.number], kind, front))
    body.append(_steps(sorted(places[n] for n in best)))
    return (
        f'<svg xmlns="http://www.w3.org/2000/svg" viewBox="0 0 {_WIDTH:g} {_HEIGHT:g}" '
        f'width="{_WIDTH:g}" height="{_HEIGHT:g}" role="img">'
        f"<title>Front of {len(front.trials)} designs</title><style>{_STYLE}</style>"
        f"{''.join(body)}</svg>\n"
    )


def _along(trial: Trial, name: str | None) -> float:
    return float(trial.number) if name is None else trial.values[name]


def _scale(values: Sequence[float]) -> tuple[float, float, float]:
    """The ends of an axis and the distance of its marks: 1, 2 or 5 times a power of ten."""
    low, high = min(values, default=0.0), max(values, default=1.0)
    span = (high - low) or abs(high) or 1.0
    unit = 10.0 ** math.floor(math.log10(span / 4))
    step = next(unit * k for k in (1, 2, 5, 10) if span / (unit * k) <= 5)
    return math.floor(low / step) * step, math.ceil(high / step) * step or step, step


def _x(scale: tuple[float, float, float], value: float) -> float:
    share = (value - scale[0]) / ((scale[1] - scale[0]) or 1.0)
    return _LEFT + share * (_WIDTH - _LEFT - _RIGHT)


def _y(scale: tuple[float, float, float], value: float) -> float:
    share = (value - scale[0]) / ((scale[1] - scale[0]) or 1.0)
    return _HEIGHT - _BOTTOM - share * (_HEIGHT - _TOP - _BOTTOM)


def _marks(scale: tuple[float, float, float]) -> list[float]:
    low, high, step = scale
    return [low + step * i for i in range(round((high - low) / step) + 1)]


def _axes(
    xs: tuple[float, float, float], ys: tuple[float, float, float], along: str, up: str
) -> list[str]:
    bottom, right = _HEIGHT - _BOTTOM, _WIDTH - _RIGHT
    parts = []
    for mark in _marks(xs):
        x = _x(xs, mark)
        parts.append(f'<line class="grid" x1="{x:.1f}" y1="{_TOP}" x2="{x:.1f}" y2="{bottom}"/>')
        parts.append(
            f'<text x="{x:.1f}" y="{bottom + 18:.1f}" text-anchor="middle">{mark:.4g}</text>'
        )
    for mark in _marks(ys):
        y = _y(ys, mark)
        parts.append(f'<line class="grid" x1="{_LEFT}" y1="{y:.1f}" x2="{right}" y2="{y:.1f}"/>')
        parts.append(f'<text x="{_LEFT - 8}" y="{y + 4:.1f}" text-anchor="end">{mark:.4g}</text>')
    middle = (_LEFT + right) / 2
    parts.append(f'<line class="axis" x1="{_LEFT}" y1="{bottom}" x2="{right}" y2="{bottom}"/>')
    parts.append(f'<line class="axis" x1="{_LEFT}" y1="{_TOP}" x2="{_LEFT}" y2="{bottom}"/>')
    parts.append(
        f'<text x="{middle:.1f}" y="{_HEIGHT - 12:.1f}" text-anchor="middle">{escape(along)}</text>'
    )
    height = (_TOP + bottom) / 2
    parts.append(
        f'<text x="16" y="{height:.1f}" text-anchor="middle" '
        f'transform="rotate(-90 16 {height:.1f})">{escape(up)}</text>'
    )
    return parts


def _dot(trial: Trial, place: tuple[float, float], kind: str, front: Front) -> str:
    figures = ", ".join(f"{name} {trial.values[name]:.4g}" for name in front.objectives.names)
    choices = "\n".join(f"{name}: {label}" for name, label in trial.design.items())
    radius = 4.5 if kind == "front" else 3.5
    return (
        f'<circle class="{kind}" cx="{place[0]:.1f}" cy="{place[1]:.1f}" r="{radius}">'
        f"<title>{escape(f'trial {trial.number}: {figures}')}\n{escape(choices)}</title></circle>"
    )


def _steps(places: Sequence[tuple[float, float]]) -> str:
    """From point to point along, then up or down."""
    if not places:
        return ""
    corners = [places[0]]
    for (_, before), (x, y) in itertools.pairwise(places):
        corners += [(x, before), (x, y)]
    points = " ".join(f"{x:.1f},{y:.1f}" for x, y in corners)
    return f'<polyline class="line" points="{points}"/>'
