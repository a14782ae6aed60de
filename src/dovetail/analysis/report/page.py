"""The page itself: the templates of this folder filled in."""

from __future__ import annotations

from collections.abc import Callable, Mapping
from pathlib import Path
from typing import Any

from dovetail._optional import optional
from dovetail.analysis.figures import (
    Drawing,
    change_map,
    energy_bars,
    fit_curve,
    histogram,
    noise_map,
    pareto,
)
from dovetail.analysis.figures.heat import in_points
from dovetail.analysis.report import words
from dovetail.analysis.report.bars import layer_bars, stage_bar
from dovetail.analysis.report.contents import Contents, Search

__all__ = ["page"]

WIDE, NARROW = 1060.0, 330.0
_SHOWN = 24  # histograms that are not folded away


def page(contents: Contents) -> str:
    """The report as HTML; a section is there where its numbers are."""
    jinja2 = optional("jinja2", extra="report")
    environment = jinja2.Environment(
        loader=jinja2.FileSystemLoader(Path(__file__).parent / "templates"),
        undefined=jinja2.StrictUndefined,
        autoescape=True,
        trim_blocks=True,
        lstrip_blocks=True,
    )
    environment.filters |= words.FILTERS
    markup: Callable[[str], Any] = optional("markupsafe", extra="report").Markup
    rendered: str = environment.get_template("page.html.j2").render(
        title=words.title(contents),
        headline=words.headline(contents),
        run=contents.run,
        attribution=contents.attribution,
        **_of_run(contents.run, markup),
        **_of_attribution(contents.attribution, markup),
        search=None if contents.search is None else _of_search(contents.search, markup),
    )
    return rendered


def _of_run(run: Mapping[str, Any] | None, markup: Callable[[str], Any]) -> dict[str, Any]:
    if run is None:
        return {}
    fit, cost = run["fit"], run["cost"]
    cards = [
        {**run["multipliers"][spelling], **picture, "picture": picture}
        for spelling, picture in run["pictures"].items()
    ]
    return {
        "tiles": words.tiles(run),
        "stages": [stage_bar(stage) for stage in run["stages"]],
        "bars": layer_bars(run["layers"]["rows"]),
        "fit": fit,
        "energies": None if cost is None else _twice(lambda w: energy_bars(cost, w), markup),
        "curve": _twice(lambda width: fit_curve(fit, min(width, 680)), markup) if fit else None,
        "multipliers": [card for card in cards if "data" in card["picture"]],
        "float_multipliers": [card for card in cards if "worst" in card["errors"]],
    }


def _of_attribution(
    attribution: Mapping[str, Any] | None, markup: Callable[[str], Any]
) -> dict[str, Any]:
    if attribution is None:
        return {"histograms": [], "others": []}
    every = [one for slots in attribution["histograms"].values() for one in slots.values()]
    found = [one for one in every if one["counts"]]
    cast = [one for one in found if one["format"] is not None]
    shown = (cast or found)[:_SHOWN]
    others = [one for one in found if not any(one is other for other in shown)]
    return {
        "change_map": _twice(lambda width: change_map(attribution, width), markup),
        "disabled_map": _twice(lambda width: change_map(attribution, width, disabled=True), markup)
        if any(row["disabled_delta_metric"] is not None for row in attribution["rows"])
        else None,
        "noise_map": _twice(lambda width: noise_map(attribution, width), markup),
        "histograms": [markup(histogram(one).svg(inline=True)) for one in shown],
        "others": [markup(histogram(one, bare=True).svg(inline=True)) for one in others],
        "points": in_points(attribution),
    }


def _of_search(search: Search, markup: Callable[[str], Any]) -> dict[str, Any]:
    _, *others = search.directions

    def against(name: str) -> Callable[[float], Drawing]:
        return lambda width: pareto(search.designs, search.directions, along=name, width=width)

    figures = dict.fromkeys(name for design in search.designs for name in design.values)
    names = dict.fromkeys(name for design in search.designs for name in design.choices)
    return {
        "designs": search.designs,
        "front": sum(design.front for design in search.designs),
        "directions": search.directions,
        "values": list(figures),
        "choices": list(names),
        "figures": [_twice(against(name), markup) for name in others or ("trial",)],
    }


def _twice(draw: Callable[[float], Drawing], markup: Callable[[str], Any]) -> dict[str, Any]:
    """The figure for a wide page and for a narrow one."""
    return {
        name: markup(draw(width).svg(inline=True))
        for name, width in (("wide", WIDE), ("narrow", NARROW))
    }
