"""Figures as pictures for papers: PNG and PDF, drawn by Matplotlib mark for mark."""

from __future__ import annotations

import io
from pathlib import Path
from typing import Any

from dovetail._files import write
from dovetail._optional import optional
from dovetail.analysis.figures.drawing import COLOURS, Area, Box, Dot, Drawing, Line, Mark, Words

__all__ = ["save_picture"]

_POINTS = 0.75  # to a pixel


def save_picture(drawing: Drawing, path: Path, *, dpi: float = 192) -> None:
    """Write ``drawing`` to ``path``, whose suffix says how: ``.png`` or ``.pdf``.

    The bytes depend on the figure and on Matplotlib's version only.
    """
    optional("matplotlib", extra="plot")
    from matplotlib.backends.backend_agg import FigureCanvasAgg
    from matplotlib.backends.backend_pdf import FigureCanvasPdf
    from matplotlib.figure import Figure

    figure = Figure(figsize=(drawing.width / 96, drawing.height / 96), facecolor="white")
    canvas: Any = (FigureCanvasPdf if path.suffix == ".pdf" else FigureCanvasAgg)(figure)
    axes = figure.add_axes((0, 0, 1, 1))
    axes.set_xlim(0, drawing.width)
    axes.set_ylim(drawing.height, 0)
    axes.axis("off")
    for order, mark in enumerate(drawing.marks):
        _draw(axes, mark, order + 1)
    undated = {"CreationDate": None} if path.suffix == ".pdf" else {"Software": None}
    drawn = io.BytesIO()
    form = path.suffix.removeprefix(".")
    canvas.print_figure(drawn, format=form, dpi=dpi, metadata=undated, facecolor="white")
    write({path: drawn.getvalue()})


def _draw(axes: Any, mark: Mark, order: int) -> None:
    from matplotlib.lines import Line2D
    from matplotlib.patches import Ellipse, Polygon, Rectangle

    if isinstance(mark, Box):
        shape = Rectangle((mark.x, mark.y), mark.width, mark.height, linewidth=0)
        shape.set(facecolor=COLOURS[mark.fill], alpha=mark.opacity, zorder=order)
        axes.add_patch(shape)
    elif isinstance(mark, Area):
        axes.add_patch(
            Polygon(mark.points, facecolor=COLOURS[mark.fill], linewidth=0, zorder=order)
        )
    elif isinstance(mark, Dot):
        disc = Ellipse((mark.x, mark.y), 2 * mark.radius, 2 * mark.radius)
        disc.set(alpha=mark.opacity, zorder=order, linewidth=_POINTS if mark.hollow else 0)
        disc.set(facecolor="none" if mark.hollow else COLOURS[mark.fill])
        disc.set(edgecolor=COLOURS[mark.fill])
        axes.add_patch(disc)
    elif isinstance(mark, Line):
        line = Line2D(*zip(*mark.points, strict=True), linewidth=mark.width * _POINTS)
        line.set(color=COLOURS[mark.stroke], zorder=order, linestyle="--" if mark.dashed else "-")
        axes.add_line(line)
    elif isinstance(mark, Words):
        _write(axes, mark, order)


def _write(axes: Any, mark: Words, order: int) -> None:
    sides = {"start": "left", "middle": "center", "end": "right"}
    axes.text(
        mark.x,
        mark.y,
        mark.text,
        color=COLOURS[mark.colour],
        fontsize=mark.size * _POINTS,
        fontweight="bold" if mark.bold else "normal",
        horizontalalignment=sides[mark.anchor],
        verticalalignment="baseline",
        rotation=-mark.turn,
        rotation_mode="anchor",
        parse_math=False,
        zorder=order,
    )
