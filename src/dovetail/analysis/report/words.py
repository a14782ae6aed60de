"""Numbers and findings as a reader of the report sees them."""

from __future__ import annotations

import math
from collections.abc import Callable, Mapping
from typing import TYPE_CHECKING, Any

from dovetail._plain import energy, number

if TYPE_CHECKING:
    from dovetail.analysis.report.contents import Contents

__all__ = ["FILTERS", "change", "db", "four", "headline", "percent", "tiles", "title", "whole"]


def title(contents: Contents) -> str:
    """What the browser's tab says."""
    if contents.run is not None:
        return f"{contents.run['model']} · {contents.run['source']}"
    return "search" if contents.search is not None else "attribution"


def headline(contents: Contents) -> str:
    """The story in one line: accuracy before, under the recipe, and after retraining."""
    if contents.run is not None:
        return _story(contents.run)
    if contents.search is not None:
        front = sum(design.front for design in contents.search.designs)
        return f"{len(contents.search.designs)} designs, {front} on the front"
    assert contents.attribution is not None
    found = contents.attribution
    exact, emulated = four(found["exact_metric"]), four(found["emulated_metric"])
    return f"{found['metric'].capitalize()}: from {exact} to {emulated}"


def _story(run: Mapping[str, Any]) -> str:
    first, *rest = (stage["accuracy"]["value"] for stage in run["stages"])
    if not rest:
        return f"{percent(first)} accurate"
    if run["fit"] is None:
        same = percent(first) == percent(rest[-1])
        return f"{percent(first)}, before and after" if same else _from(first, rest[-1])
    before, after = rest[-2] if len(rest) > 1 else first, rest[-1]
    turn = "and back to" if after > before else "and retrained to"
    return f"{_from(first, before)}, {turn} {percent(after)}"


def _from(first: float, last: float) -> str:
    return f"From {percent(first)} to {percent(last)}"


def tiles(run: Mapping[str, Any]) -> list[dict[str, str]]:
    """The figures one looks for first."""
    stages = run["stages"]
    found = [
        {"figure": percent(stage["accuracy"]["value"]), "what": f"accuracy, {stage['name']}"}
        for stage in stages
    ]
    found += [
        {"figure": f"{number(stage['perplexity']):.2f}", "what": f"perplexity, {stage['name']}"}
        for stage in stages
        if stage.get("perplexity") is not None
    ]
    if stages[-1]["energy"] is not None:
        energy = percent(stages[-1]["energy"], 0)
        found.append({"figure": energy, "what": "energy of the multiplications"})
    return found


def percent(share: Any, digits: int = 1) -> str:
    """
    >>> percent(0.9756), percent(None)
    ('97.6 %', 'n/a')
    """
    value = number(share)
    return "n/a" if value is None or math.isnan(value) else f"{100 * value:.{digits}f} %"


def db(given: Any) -> str:
    """
    >>> db(-12.5), db("inf"), db(None)
    ('−12.5', '∞', 'n/a')
    """
    value = number(given)
    if value is None or math.isnan(value):
        return "n/a"
    if math.isinf(value):
        return "∞" if value > 0 else "−∞"
    return f"{value:.1f}".replace("-", "−")


def change(given: Any) -> str:
    """
    >>> change(-0.0123), change(0.0), change(None)
    ('−0.0123', '0', 'n/a')
    """
    value = number(given)
    if value is None or math.isnan(value):
        return "n/a"
    return "0" if value == 0 else f"{value:+.4g}".replace("-", "−")


def four(given: Any) -> str:
    """Four digits, and zeros for the others.

    >>> four(0.123456), four(5154321.0), four(None)
    ('0.1235', '5,154,000', 'n/a')
    """
    value = number(given)
    if value is None or math.isnan(value):
        return "n/a"
    digits = f"{value:.4g}"
    large = 1e4 <= abs(value) < 1e15
    return (f"{float(digits):,.0f}" if large else digits).replace("-", "−")


def whole(given: Any) -> str:
    """
    >>> whole(12345.6), whole(None)
    ('12,346', 'n/a')
    """
    value = number(given)
    return "n/a" if value is None or math.isnan(value) else f"{value:,.0f}".replace("-", "−")


def _sorting(given: Any) -> str:
    """What a table sorts a number by; empty where there is none."""
    value = number(given)
    if value is None or math.isnan(value):
        return ""
    return repr(value) if math.isfinite(value) else "Infinity" if value > 0 else "-Infinity"


FILTERS: dict[str, Callable[..., str]] = {
    "change": change,
    "count": "{:,}".format,
    "db": db,
    "energy": energy,
    "four": four,
    "percent": percent,
    "sorting": _sorting,
    "whole": whole,
}
