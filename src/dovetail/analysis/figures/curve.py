"""How a retraining went: the mean loss of each epoch, and the metric."""

from __future__ import annotations

import math
from collections.abc import Mapping, Sequence
from typing import Any

from dovetail._plain import number
from dovetail.analysis.figures.drawing import Dot, Drawing, Line, Mark, Words
from dovetail.analysis.figures.scale import Scale, ticks

__all__ = ["fit_curve"]

_HEIGHT, _TOP, _LEFT = 130.0, 26.0, 58.0


def fit_curve(fit: Mapping[str, Any], width: float = 680) -> Drawing:
    """One panel for the loss, from epoch 1 on, and one for the metric, from epoch 0, if any.

    >>> print(fit_curve({"losses": [1.0, 0.5], "metrics": []}).label)
    mean loss from 1 in epoch 1 to 0.5 in epoch 2
    """
    epochs = max(1, len(fit["losses"]), len(fit["metrics"]) - 1)
    across = Scale(0, epochs, _LEFT, width - 12)
    panels = [("mean loss", 1, fit["losses"]), ("metric", 0, fit["metrics"])]
    found = [(name, _places(first, values)) for name, first, values in panels]
    shown = [(name, places) for name, places in found if places]
    marks: list[Mark] = []
    for index, (name, places) in enumerate(shown):
        marks += _panel(name, places, across, index * _HEIGHT)
    bottom = _HEIGHT * len(shown)
    for epoch in ticks(0, epochs, 8):
        if epoch == int(epoch):
            marks.append(Words(across(epoch), bottom + 16, f"{epoch:.0f}", "middle", size=11))
    marks.append(Words((_LEFT + width) / 2, bottom + 34, "epoch", "middle", size=11))
    label = "; ".join(
        f"{name} from {places[0][1]:.4g} in epoch {places[0][0]} to {places[-1][1]:.4g} "
        f"in epoch {places[-1][0]}"
        for name, places in shown
    )
    return Drawing(width, bottom + 40, label, tuple(marks))


def _places(first: int, values: Sequence[Any]) -> list[tuple[int, float]]:
    found = [(epoch, number(value)) for epoch, value in enumerate(values, first)]
    return [(e, v) for e, v in found if v is not None and math.isfinite(v)]


def _panel(
    name: str, places: Sequence[tuple[int, float]], across: Scale, above: float
) -> list[Mark]:
    values = [value for _, value in places]
    up = Scale(min(values), max(values), above + _HEIGHT - 12, above + _TOP)
    marks: list[Mark] = [Words(_LEFT, above + 14, name, "start", "ink", bold=True)]
    for value in dict.fromkeys((up.low, up.high)):
        marks.append(Line(((_LEFT, up(value)), (across.end, up(value))), "line"))
        marks.append(Words(_LEFT - 7, up(value) + 4, f"{value:.4g}", "end", size=11))
    marks.append(Line(tuple((across(e), up(v)) for e, v in places), "blue", 2))
    marks += [Dot(across(e), up(v), 3.5, "blue", tip=f"epoch {e}: {v:.4g}") for e, v in places]
    return marks
