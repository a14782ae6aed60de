"""One operation with only some of its sources of error: the rest of it computes exactly.

A source is what a rule gives an operation: the casts of its operands and of its result, its
sparsity, its multiplier, its accumulator, its approximation. A multiplier of codes, and the
register that sums their products, need the codes of both operands. Where one of these is left
uncast they go with it, and where they are wanted alone, what they do to the codes is added to the
exact result.
"""

from __future__ import annotations

from collections.abc import Collection, Mapping
from dataclasses import dataclass
from typing import Any

import torch
from torch import Tensor, nn

from dovetail.arithmetic import EXACT, Arithmetic
from dovetail.emulation.calls import Call
from dovetail.emulation.execute import emulated
from dovetail.emulation.operators import OpCall
from dovetail.emulation.site import Site
from dovetail.formats import Same
from dovetail.gradients import Gradient
from dovetail.multipliers import FloatMultiplier
from dovetail.multipliers.exact import Exact

__all__ = ["SOURCES", "Partial", "partial", "sources_of"]

#: What each source of error consists of: fields of the arithmetic, in the order of their use.
SOURCES: Mapping[str, tuple[str, ...]] = {
    "sparsity": ("sparsity",),
    "input": ("input", "other"),
    "weight": ("weight_storage", "weight"),
    "bias": ("bias",),
    "mul": ("mul",),
    "acc": ("acc",),
    "fn": ("fn",),
    "output": ("output",),
}

_CASTS = frozenset({"input", "weight"})

#: The sources that each transform is for. Those of several leave an exact operation as it is.
_TRANSFORMS: Mapping[str, frozenset[str]] = {
    **dict.fromkeys(("smooth", "smooth_dynamic", "rotation"), _CASTS),
    "norm": _CASTS | {"fn"},
    "weight": frozenset({"weight"}),
    "clip": frozenset({"weight"}),
    "shift": frozenset({"bias"}),
    "variate": frozenset({"mul"}),
    "function": frozenset({"fn"}),
}


def sources_of(site: Site) -> dict[str, str]:
    """The sources of error of an operation, with what each of them is, in the order of their use.

    >>> from dovetail.emulation import apply_
    >>> from dovetail.emulation.state import sites
    >>> from dovetail.recipe import Recipe, rule
    >>> net = nn.Linear(4, 2)
    >>> _ = apply_(net, Recipe(rule(input="int8", weight="int4", acc="int16")), torch.ones(1, 4))
    >>> [sources_of(site) for site, _ in sites(net)]
    [{'input': 'int8', 'weight': 'int4', 'acc': 'int16'}]
    """
    found = {source: _spelt(site, fields) for source, fields in SOURCES.items()}
    for kind in site.transforms:
        if len(_TRANSFORMS[kind]) == 1 and kind != "function":  # which the arithmetic spells
            (source,) = _TRANSFORMS[kind]
            found[source] = " + ".join(text for text in (found[source], kind) if text)
    return {source: text for source, text in found.items() if text}


def _spelt(site: Site, fields: tuple[str, ...]) -> str:
    if fields == ("sparsity",):
        return site.sparsity_text
    given = [getattr(site.arithmetic, name) for name in fields]
    return ", ".join(dict.fromkeys(str(value) for value in given if not _is_exact(value)))


def _is_exact(value: object) -> bool:
    return value is None or isinstance(value, (Same, Exact))


class _PartialSite(Site):
    """A site with some of its sources; all else is the site's own."""

    def __init__(self, site: Site, arithmetic: Arithmetic, sources: Collection[str]) -> None:
        self.site, self.arithmetic = site, arithmetic
        self.spelling = arithmetic.spelling
        nearest = arithmetic.with_nearest_codes()
        self.drawn = None if nearest is None else (nearest, nearest.spelling)
        self.set_sparsity(site.sparsity if "sparsity" in sources else None)
        self.attributes = site.attributes if arithmetic.fn is not None else {}
        self._places = [
            place
            for place, kind in enumerate(site.transforms)
            if not _TRANSFORMS[kind].isdisjoint(sources)
        ]
        self.transforms = tuple(site.transforms[place] for place in self._places)

    def transform_buffer(self, place: int, part: str) -> str:
        return self.site.transform_buffer(self._places[place], part)

    def __getattr__(self, name: str) -> Any:
        return getattr(self.__dict__["site"], name)


@dataclass(frozen=True)
class Partial:
    """How an operation computes with some of its sources; see :func:`partial`.

    Without a ``site`` it is exact. What the first of ``over`` gives beyond the second is added.
    ``dropped`` are sources that were asked for and went with others that were not.
    """

    site: Site | None
    over: tuple[Site, Site] | None = None
    dropped: tuple[str, ...] = ()

    def perform(self, module: nn.Module, call: Call | OpCall) -> Tensor:
        """The result of one call, in normal form."""
        y = call.exact() if self.site is None else emulated(self.site, module, call)
        if self.over is None:
            return y
        one, other = (emulated(site, module, call) for site in self.over)
        return torch.where(one == other, y, y + (one - other))


def partial(site: Site, sources: Collection[str]) -> Partial:
    """The operation with these of its sources, and no others.

    With all of them it is the site itself, bit for bit, with none it is exact. A multiplier of
    codes, or a register that sums their products, goes with an operand that is not cast. Wanted
    without any cast at all, these are what they change in the result of the codes, added to what
    the other sources give.
    """
    own = frozenset(sources_of(site))
    wanted = own & frozenset(sources)
    if wanted == own:
        return Partial(site)
    arithmetic, dropped = _possible(site, _with(site, wanted))
    left = wanted.difference(dropped)
    rest = _PartialSite(site, arithmetic, left) if left else None
    if not dropped or wanted & _CASTS:
        return Partial(rest, None, dropped)
    cast, plain = wanted | _CASTS, left | _CASTS
    over = (
        _PartialSite(site, _with(site, cast), cast),
        _PartialSite(site, _with(site, plain), plain),
    )
    return Partial(rest, over)


def _with(site: Site, sources: Collection[str]) -> Arithmetic:
    """The site's arithmetic with these sources only, even if nothing can compute by it. What is
    differentiated by whom is left out."""
    left_out = {
        name: getattr(EXACT, name)
        for source, names in SOURCES.items()
        if source not in sources
        for name in names
    }
    return site.arithmetic.with_({**left_out, "grad": Gradient()})


def _possible(site: Site, wanted: Arithmetic) -> tuple[Arithmetic, tuple[str, ...]]:
    """``wanted`` without what needs an operand's format that it has not, and what that is."""
    needs: tuple[str, ...]
    if isinstance(site.arithmetic.mul, FloatMultiplier):
        needs = ("mul",) if wanted.input is None or wanted.weight is None else ()
    else:
        codes = site.arithmetic.multiplies_codes and not wanted.multiplies_codes
        needs = ("mul", "acc") if codes else ()
    dropped = tuple(name for name in needs if not _is_exact(getattr(wanted, name)))
    return wanted.with_({name: getattr(EXACT, name) for name in dropped}), dropped
