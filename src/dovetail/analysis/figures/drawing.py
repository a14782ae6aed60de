"""A figure as a list of marks, drawn as SVG: in a page whose colours it takes, or on its own.

Coordinates are pixels, y downward. Colours are roles (`COLOURS`), so that one figure suits a light
and a dark page; a figure on its own is light.
"""

from __future__ import annotations

from dataclasses import dataclass, replace
from html import escape

__all__ = ["COLOURS", "FONT", "Area", "Box", "Dot", "Drawing", "Line", "Mark", "Words", "fitted"]

#: What each role is in a figure of its own; a page defines `--ink` and so on itself.
COLOURS = {
    "ink": "#1d2327",
    "soft": "#5b656c",
    "line": "#d5d1c8",
    "gray": "#a9afb3",
    "track": "#efece5",
    "card": "#ffffff",
    "blue": "#2e6fd6",
    "orange": "#d95f0e",
    "on-orange": "#1d2327",
    "on-blue": "#ffffff",
}
FONT = "system-ui, -apple-system, 'Segoe UI', Roboto, 'Helvetica Neue', sans-serif"
_LETTER = 0.58  # of the size: how wide a letter is, on the safe side


@dataclass(frozen=True)
class Box:
    """A rectangle; `tip` is what a reader sees who points at it."""

    x: float
    y: float
    width: float
    height: float
    fill: str
    opacity: float = 1.0
    tip: str = ""
    round: float = 0.0


@dataclass(frozen=True)
class Line:
    """Straight lines from point to point."""

    points: tuple[tuple[float, float], ...]
    stroke: str = "line"
    width: float = 1.0
    dashed: bool = False


@dataclass(frozen=True)
class Area:
    """What straight lines from point to point, and back to the first, enclose."""

    points: tuple[tuple[float, float], ...]
    fill: str


@dataclass(frozen=True)
class Dot:
    """A disc, or a ring."""

    x: float
    y: float
    radius: float
    fill: str
    opacity: float = 1.0
    tip: str = ""
    hollow: bool = False


@dataclass(frozen=True)
class Words:
    """One line of text: `anchor` is start, middle or end; `turn` its angle in degrees."""

    x: float
    y: float
    text: str
    anchor: str = "start"
    colour: str = "soft"
    size: float = 12.0
    bold: bool = False
    turn: float = 0.0
    tip: str = ""


Mark = Area | Box | Line | Dot | Words


@dataclass(frozen=True)
class Drawing:
    """A figure; `label` says what it shows to who cannot see it.

    >>> print(Drawing(20, 10, "a box", (Box(0, 0, 20, 10, "blue", tip="b < 1"),)).svg())
    <svg xmlns="http://www.w3.org/2000/svg" viewBox="0 0 20 10" width="20" height="10" role="img" \
aria-label="a box">
    <rect x="0" y="0" width="20" height="10" fill="#2e6fd6"><title>b &lt; 1</title></rect>
    </svg>
    """

    width: float
    height: float
    label: str
    marks: tuple[Mark, ...]

    def svg(self, *, inline: bool = False) -> str:
        """The figure as text; `inline` takes its colours from the page around it."""
        width, height = _n(self.width), _n(self.height)
        head = f'<svg xmlns="http://www.w3.org/2000/svg" viewBox="0 0 {width} {height}"'
        head += f' width="{width}" height="{height}" role="img"'
        head += f' aria-label="{escape(self.label)}">'
        family = (
            f"<style>text{{font-family:{FONT}}}</style>" if self._has_words and not inline else ""
        )
        body = [_mark(mark, inline) for mark in self.marks]
        return "\n".join([head, *([family] if family else []), *body, "</svg>"])

    @property
    def _has_words(self) -> bool:
        return any(isinstance(mark, Words) for mark in self.marks)

    def beside(self, other: Drawing, gap: float = 16.0) -> Drawing:
        """Both in one figure, `other` to the right."""
        moved = tuple(_moved(mark, self.width + gap) for mark in other.marks)
        return Drawing(
            self.width + gap + other.width,
            max(self.height, other.height),
            f"{self.label}; {other.label}",
            self.marks + moved,
        )


def fitted(text: str, room: float, size: float = 12.0) -> str:
    """`text`, its middle left out where it would be wider than `room` pixels.

    >>> fitted("layers.10.attention.query", 100)
    'layers…n.query'
    """
    most = max(3, int(room / (_LETTER * size)))
    if len(text) <= most:
        return text
    tail = most // 2
    return f"{text[: most - tail - 1]}…{text[len(text) - tail :]}"


def _moved(mark: Mark, right: float) -> Mark:
    if isinstance(mark, (Area, Line)):
        return replace(mark, points=tuple((x + right, y) for x, y in mark.points))
    return replace(mark, x=mark.x + right)


def _mark(mark: Mark, inline: bool) -> str:
    if isinstance(mark, Box):
        shape = f'rect x="{_n(mark.x)}" y="{_n(mark.y)}" width="{_n(mark.width)}"'
        shape += f' height="{_n(mark.height)}"{_paint(mark.fill, inline)}'
        shape += f' rx="{_n(mark.round)}"' if mark.round else ""
        return _closed(shape + _opacity(mark.opacity), mark.tip)
    if isinstance(mark, Dot):
        shape = f'circle cx="{_n(mark.x)}" cy="{_n(mark.y)}" r="{_n(mark.radius)}"'
        paint = _paint(mark.fill, inline, "stroke" if mark.hollow else "fill")
        paint = f' fill="none" pointer-events="all"{paint}' if mark.hollow else paint
        return _closed(shape + paint + _opacity(mark.opacity), mark.tip)
    if isinstance(mark, Area):
        return f'<polygon points="{_points(mark.points)}"{_paint(mark.fill, inline)}/>'
    if isinstance(mark, Line):
        points = _points(mark.points)
        shape = f'polyline points="{points}" fill="none"{_paint(mark.stroke, inline, "stroke")}'
        shape += f' stroke-width="{_n(mark.width)}"'
        return _closed(shape + (' stroke-dasharray="4 3"' if mark.dashed else ""), "")
    shape = f'text x="{_n(mark.x)}" y="{_n(mark.y)}" font-size="{_n(mark.size)}"'
    shape += f"{_paint(mark.colour, inline)}"
    shape += f' text-anchor="{mark.anchor}"' if mark.anchor != "start" else ""
    shape += ' font-weight="600"' if mark.bold else ""
    if mark.turn:
        shape += f' transform="rotate({_n(mark.turn)} {_n(mark.x)} {_n(mark.y)})"'
    title = f"<title>{escape(mark.tip)}</title>" if mark.tip else ""
    return f"<{shape}>{title}{escape(mark.text)}</text>"


def _points(points: tuple[tuple[float, float], ...]) -> str:
    return " ".join(f"{_n(x)},{_n(y)}" for x, y in points)


def _closed(shape: str, tip: str) -> str:
    tag = shape.split(" ", 1)[0]
    return f"<{shape}><title>{escape(tip)}</title></{tag}>" if tip else f"<{shape}/>"


def _paint(role: str, inline: bool, what: str = "fill") -> str:
    return f' style="{what}:var(--{role})"' if inline else f' {what}="{COLOURS[role]}"'


def _opacity(value: float) -> str:
    return "" if value == 1 else f' opacity="{_n(value)}"'


def _n(value: float) -> str:
    """A coordinate, to a tenth of a pixel (an opacity to a hundredth)."""
    return (
        f"{value:.2f}".rstrip("0").rstrip(".")
        if abs(value) < 2
        else f"{value:.1f}".removesuffix(".0")
    )
