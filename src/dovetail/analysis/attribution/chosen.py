"""Which sources of which operations an attribution is asked about."""

from __future__ import annotations

import difflib
from collections.abc import Sequence

from torch import nn

from dovetail.emulation.partial import SOURCES, sources_of
from dovetail.emulation.site import Site
from dovetail.emulation.state import sites
from dovetail.errors import DovetailError, unknown
from dovetail.recipe.selectors import Selector

__all__ = ["Chosen", "chosen"]

#: By operation: its site, and what each of its sources is.
Chosen = dict[str, tuple[Site, dict[str, str]]]


def chosen(
    model: nn.Module, select: str | Sequence[str] = "*", sources: Sequence[str] | None = None
) -> Chosen:
    """The sources of error of an emulated model: of operations that one of the patterns matches,
    those named, or all.

    A pattern is one of rules, but speaks of every kind of operation. What matches nothing is
    refused.

    >>> import torch, dovetail as dv
    >>> net = nn.Sequential(nn.Linear(4, 4), nn.Linear(4, 2))
    >>> _ = dv.apply_(net, dv.Recipe(dv.rule(input="int8", weight="int4")), torch.ones(1, 4))
    >>> {op: sources for op, (_, sources) in chosen(net, "1", ["weight", "mul"]).items()}
    {'1': {'weight': 'int4'}}
    """
    wanted = list(SOURCES) if sources is None else _names(sources)
    patterns = [select] if isinstance(select, str) else select
    if not isinstance(patterns, Sequence) or not patterns:
        raise DovetailError(f"select={select!r} is no pattern such as 'layers.*', nor several")
    found = {site.op.key: site for site, _ in sites(model)}
    taken: set[str] = set()
    for pattern in patterns:
        taken |= _matched(pattern, found)
    asked = {
        key: (site, {s: text for s, text in sources_of(site).items() if s in wanted})
        for key, site in found.items()
        if key in taken
    }
    if sources is not None and not any(of for _, of in asked.values()):
        raise DovetailError(
            f"no operation that select={select!r} matches has the source {' or '.join(wanted)}"
        )
    return {key: each for key, each in asked.items() if each[1]}


def _names(sources: Sequence[str]) -> list[str]:
    if isinstance(sources, str):
        sources = [sources]
    if not sources:
        raise DovetailError(f"sources={sources!r} names none of {', '.join(SOURCES)}")
    for source in sources:
        if source not in SOURCES:
            raise unknown("source of error", source, SOURCES)
    return list(sources)


def _matched(pattern: str, found: dict[str, Site]) -> set[str]:
    if not isinstance(pattern, str):
        raise DovetailError(f"select={pattern!r} is no pattern such as 'layers.*'")
    named_kind = ":" in pattern.removeprefix("re:")
    selector = Selector(pattern, op=None if named_kind else "*")
    matched = {key for key, site in found.items() if selector.matches(site.op.address)}
    if not matched:
        near = difflib.get_close_matches(pattern.strip("*"), found, n=1, cutoff=0.3)
        hint = f"; did you mean '{near[0]}'?" if near else "."
        shown = ", ".join(list(found)[:12]) + (", ..." if len(found) > 12 else "")
        raise DovetailError(
            f"select='{pattern}' matches no emulated operation{hint} There are: {shown}"
        )
    return matched
