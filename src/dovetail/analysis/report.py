"""The report of a run: one HTML file that needs nothing else, and the same numbers as JSON."""

from __future__ import annotations

import json
import math
import platform
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Any

import numpy as np
import torch

from dovetail._optional import optional
from dovetail.analysis.curve import curve
from dovetail.analysis.heatmap import heat_map
from dovetail.analysis.layers import shown
from dovetail.multipliers import FloatMultiplier, Multiplier

if TYPE_CHECKING:
    from dovetail.analysis.layers import LayerTable
    from dovetail.experiment.result import RunResult, Stage

__all__ = ["versions", "write"]

TEMPLATE = "report.html.j2"


def write(folder: str | Path, result: RunResult, *, command: str) -> Path:
    """Write ``report.html``, ``report.json`` and ``recipe.yaml`` to ``folder``; gives its path.

    ``command`` is what was run, as one would type it. ``report.json`` holds ``result.to_dict()``
    with the command and the versions; ``recipe.yaml`` the experiment with every default spelt
    out. Files of an earlier run are replaced.
    """
    html = _render(result, command)
    numbers = {"command": command, "versions": versions(), **result.to_dict()}
    target = Path(folder)
    target.mkdir(parents=True, exist_ok=True)
    text = json.dumps(numbers, indent=2, ensure_ascii=False, allow_nan=False)
    (target / "report.json").write_text(text + "\n", encoding="utf-8")
    (target / "recipe.yaml").write_text(result.resolved, encoding="utf-8")
    (target / "report.html").write_text(html, encoding="utf-8")
    return target


def versions() -> dict[str, str]:
    """What computed the numbers: dovetail, torch, NumPy and Python.

    >>> list(versions())
    ['dovetail', 'torch', 'numpy', 'python']
    """
    import dovetail

    return {
        "dovetail": dovetail.__version__,
        "torch": torch.__version__,
        "numpy": np.__version__,
        "python": platform.python_version(),
    }


def _render(result: RunResult, command: str) -> str:
    jinja2 = optional("jinja2", extra="report")
    environment = jinja2.Environment(
        loader=jinja2.FileSystemLoader(Path(__file__).parent),
        undefined=jinja2.StrictUndefined,
        autoescape=True,
        trim_blocks=True,
        lstrip_blocks=True,
    )
    environment.filters |= {"percent": _percent, "db": _db, "count": "{:,}".format}
    rendered: str = environment.get_template(TEMPLATE).render(
        result=result,
        headline=_headline(result),
        tiles=_tiles(result),
        stages=[_stage(stage) for stage in result.stages],
        bars=_layer_bars(result.layers),
        multipliers=[
            _card(mul)
            for mul in result.multipliers.values()
            if isinstance(mul, Multiplier) and mul.errors().wce
        ],
        float_multipliers=[
            {"name": shown(mul), "errors": mul.errors()}
            for mul in result.multipliers.values()
            if isinstance(mul, FloatMultiplier)
        ],
        curve=None if result.fit is None else curve(result.fit),
        command=command,
        versions=versions(),
    )
    return rendered


def _headline(result: RunResult) -> str:
    """The story in one line: accuracy before, under the recipe, and after retraining."""
    first, *rest = (stage.accuracy.value for stage in result.stages)
    if not rest:
        return f"{_percent(first)} accurate"
    if result.fit is None:
        return f"From {_percent(first)} to {_percent(rest[-1])}"
    before, after = rest[-2] if len(rest) > 1 else first, rest[-1]
    turn = "and back to" if after > before else "and retrained to"
    return f"From {_percent(first)} to {_percent(before)}, {turn} {_percent(after)}"


def _tiles(result: RunResult) -> list[dict[str, str]]:
    """The figures one looks for first."""
    last = result.stages[-1]
    tiles = [
        {"figure": _percent(stage.accuracy.value), "what": f"accuracy, {stage.name}"}
        for stage in result.stages
    ]
    tiles += [
        {"figure": f"{stage.perplexity:.2f}", "what": f"perplexity, {stage.name}"}
        for stage in result.stages
        if stage.perplexity is not None
    ]
    if last.energy is not None:
        tiles.append({"figure": _percent(last.energy, 0), "what": "energy of the multiplications"})
    return tiles


@dataclass(frozen=True)
class _Bar:
    """A bar from ``start`` of length ``length``, in per cent of the figure's width."""

    start: float
    length: float
    label: str


def _stage(stage: Stage) -> dict[str, Any]:
    """A stage with the whisker of its interval, in per cent of the figure's width."""
    seen = stage.accuracy
    return {
        "stage": stage,
        "bar": _Bar(0, 100 * seen.value, _percent(seen.value)),
        "whisker": _Bar(100 * seen.low, 100 * (seen.high - seen.low), ""),
    }


def _layer_bars(rows: LayerTable) -> dict[str, Any]:
    """SQNR bars of every layer on one scale that starts at 0 dB or below."""
    values = [v for row in rows for v in (row.isolated_db, row.accumulated_db)]
    finite = [v for v in values if v is not None and math.isfinite(v)]
    low = min(0.0, *finite) if finite else 0.0
    high = max(1.0, *finite) if finite else 1.0
    low, high = 10 * math.floor(low / 10), 10 * math.ceil(high / 10)

    def place(value: float) -> float:
        return 100 * (min(max(value, low), high) - low) / (high - low)

    def bar(value: float | None) -> _Bar:
        zero, end = place(0), place(0 if value is None or math.isnan(value) else value)
        return _Bar(min(zero, end), abs(end - zero), _db(value))

    return {
        "rows": [(row, bar(row.isolated_db), bar(row.accumulated_db)) for row in rows],
        "ticks": [(place(v), v) for v in range(low, high + 1, 10 if high - low <= 60 else 20)],
        "zero": place(0),
    }


def _card(mul: Multiplier) -> dict[str, Any]:
    """What the report shows of a multiplier that makes errors."""
    factors = mul.factors()
    return {
        "name": shown(mul),
        "errors": mul.errors(),
        "rank": None if factors is None else factors.rank,
        "cost": mul.cost,
        "picture": heat_map(mul),
    }


def _percent(share: float | None, digits: int = 1) -> str:
    return "n/a" if share is None else f"{100 * share:.{digits}f} %"


def _db(value: float | None) -> str:
    if value is None or math.isnan(value):
        return "n/a"
    if math.isinf(value):
        return "∞" if value > 0 else "−∞"
    return f"{value:.1f}".replace("-", "−")
