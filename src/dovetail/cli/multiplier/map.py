"""The picture of a multiplier's error over its operands: as a file, or in a terminal."""

from __future__ import annotations

from pathlib import Path
from typing import TYPE_CHECKING

from rich.text import Text

if TYPE_CHECKING:
    from dovetail.multipliers import Multiplier

__all__ = ["drawn", "write_map"]

_SHADES = " ░▒▓█"
_ROWS, _COLUMNS = 16, 48


def write_map(m: Multiplier, place: Path) -> None:
    """Write the heat map as ``.png``, or as ``.svg`` with its axes."""
    from dovetail._files import target
    from dovetail.analysis.heatmap import heat_map
    from dovetail.errors import unknown

    if place.suffix not in (".png", ".svg"):
        raise unknown("kind of picture", place.suffix or str(place), (".png", ".svg"))
    path, found = target(place), heat_map(m)
    if path.suffix == ".png":
        path.write_bytes(found.png())
        return
    (a_low, a_high), (w_low, w_high) = found.inputs, found.weights
    title = f"{m.name}: error {-found.limit} (blue) to {found.limit} (orange)"
    path.write_text(
        '<svg xmlns="http://www.w3.org/2000/svg" viewBox="0 0 640 660" font-family="sans-serif" '
        'font-size="16">\n'
        f'<text x="70" y="24">{_escaped(title)}</text>\n'
        f'<image x="70" y="40" width="560" height="560" style="image-rendering: pixelated" '
        f'preserveAspectRatio="none" href="{found.data_uri()}"/>\n'
        '<rect x="70" y="40" width="560" height="560" fill="none" stroke="gray"/>\n'
        f'<text x="70" y="620">{w_low}</text><text x="350" y="640" text-anchor="middle">weight'
        f'</text><text x="630" y="620" text-anchor="end">{w_high}</text>\n'
        f'<text x="64" y="600" text-anchor="end">{a_low}</text><text x="64" y="56" '
        f'text-anchor="end">{a_high}</text><text x="24" y="320" text-anchor="middle" '
        f'transform="rotate(-90 24 320)">input</text>\n</svg>\n',
        encoding="utf-8",
    )


def drawn(m: Multiplier) -> Text:
    """The mean |error| of parts of the operands' ranges, the more the darker."""
    import numpy as np

    from dovetail.analysis.heatmap import heat_map

    found = heat_map(m)
    distance = np.abs(found.errors).astype(np.float64)
    rows = np.array_split(distance, min(_ROWS, len(distance)))[::-1]
    cells = np.array(
        [
            [part.mean() for part in np.array_split(row, min(_COLUMNS, row.shape[1]), axis=1)]
            for row in rows
        ]
    )
    most = cells.max() or 1.0
    steps = np.ceil(cells / most * (len(_SHADES) - 1)).astype(int)
    (a_low, a_high), (w_low, w_high) = found.inputs, found.weights
    margin = max(len(str(a_low)), len(str(a_high)), len("input"))
    marks = {0: str(a_high), len(steps) // 2: "input", len(steps) - 1: str(a_low)}
    lines = [f"Mean |error|, up to {cells.max():.4g} (darkest); weights to the right:"]
    for place, row in enumerate(steps.tolist()):
        lines.append(f"{marks.get(place, ''):>{margin}} │{''.join(_SHADES[s] for s in row)}│")
    width = len(steps[0])
    lines.append(f"{'':>{margin}}  {w_low}{w_high:>{width - len(str(w_low))}}")
    return Text("\n".join(lines), no_wrap=True)


def _escaped(text: str) -> str:
    return text.replace("&", "&amp;").replace("<", "&lt;").replace(">", "&gt;")
