"""What an emulated module knows: which of its calls are planned, and the state they share."""

from __future__ import annotations

import math
from collections.abc import Callable, Iterable
from typing import TYPE_CHECKING, Any

from torch import Tensor, nn

from dovetail.emulation.calls import Call
from dovetail.emulation.composites import COMPOSITES, Composite, Products
from dovetail.emulation.execute import execute
from dovetail.emulation.mode import WHOLE
from dovetail.emulation.operators import (
    OPERATORS,
    WHOLE_MODULES,
    OpCall,
    Operator,
    WholeModule,
)
from dovetail.emulation.readers import COVERED, Reader
from dovetail.emulation.site import Emulation, Site
from dovetail.errors import DovetailError

if TYPE_CHECKING:
    from dovetail.emulation.mode import Mode

__all__ = ["Entry", "table_of"]

Reads = Reader | Operator | WholeModule | Composite

_TABLES: dict[frozenset[str], dict[Any, Reads]] = {}


def table_of(kinds: Iterable[str]) -> dict[Any, Reads]:
    """The functions of some kinds. The same kinds give the same object, so that equal modules look
    equal to torch.compile and share a graph."""
    wanted = frozenset(kinds)
    if wanted not in _TABLES:
        table: dict[Any, Reads] = {}
        table |= {f: r for f, r in COVERED.items() if r.kind in wanted}
        table |= {f: o for f, o in OPERATORS.items() if not o.kinds.isdisjoint(wanted)}
        table |= {f: c for f, c in COMPOSITES.items() if not c.kinds.isdisjoint(wanted)}
        if not WHOLE_MODULES.kinds.isdisjoint(wanted):
            table[WHOLE] = WHOLE_MODULES
        _TABLES[wanted] = table
    return _TABLES[wanted]


class Entry:
    """What stands in an emulated module's ``__dict__``.

    An entry without sites shields its module from the caller's mode. ``beyond`` holds, for a kind
    that the example called repeatedly, how often it did and the operation that one more call would
    be, where a rule addresses that too.
    """

    def __init__(
        self,
        emulation: Emulation,
        sites: dict[str, dict[int | None, Site]],
        beyond: dict[str, tuple[int, str]] | None = None,
    ) -> None:
        self.emulation = emulation
        self.sites = sites
        self.beyond = beyond or {}
        self.table = table_of(sites)
        # From which call on nothing is planned of a kind: it need no longer be read, nor counted.
        self.settled = {
            kind: 1 + max(index for index in by_index if index is not None)
            for kind, by_index in sites.items()
            if None not in by_index and kind not in self.beyond
        }

    def __getstate__(self) -> dict[str, Any]:
        return {"emulation": self.emulation, "sites": self.sites, "beyond": self.beyond}

    def __setstate__(self, state: dict[str, Any]) -> None:
        self.__init__(**state)  # type: ignore[misc]

    def site(self, kind: str, index: int) -> Site | None:
        """The site of the ``index``-th call of ``kind``, or ``None`` if it stays exact."""
        by_index = self.sites[kind]
        site = by_index.get(index, by_index.get(None))
        if site is None and kind in self.beyond and index >= self.beyond[kind][0]:
            calls, key = self.beyond[kind]
            raise DovetailError(
                f"{key}: the example called {kind} {calls} times here, so this call has no plan; "
                "give apply_ an example that makes it, or match the planned ones by their index"
            )
        return site

    def handle(
        self,
        mode: Mode,
        reader: Reads,
        func: Callable[..., Any],
        args: tuple[Any, ...],
        kwargs: dict[str, Any],
    ) -> Any:
        """Carry out one intercepted call."""
        if isinstance(reader, Composite):
            return self._composite(mode, reader, func, args, kwargs)
        if mode.counts.get(reader.only, 0) >= self.settled.get(reader.only, math.inf):
            return func(*args, **kwargs)
        call = reader.call(args, kwargs)
        if not isinstance(call, (Call, OpCall)):
            return func(*args, **kwargs)  # as in the example run, such a call takes no index
        index = mode.next_index(call.kind)
        site = self.site(call.kind, index) if call.kind in self.sites else None
        if site is None:
            return func(*args, **kwargs)
        return call.finish(execute(self.emulation, site, mode.module, call))

    def _composite(
        self,
        mode: Mode,
        composite: Composite,
        func: Callable[..., Any],
        args: tuple[Any, ...],
        kwargs: dict[str, Any],
    ) -> Any:
        """A function with operations inside: as torch has it, unless a rule touches one of them."""
        unfused = composite.read(args, kwargs)
        if unfused is None:
            return func(*args, **kwargs)
        products: dict[tuple[str, int], Site | None] = {}
        for kind, count in unfused.counts.items():
            first = mode.counts.get(kind, 0)
            mode.counts[kind] = first + count
            for i in range(count):
                products[(kind, i)] = self.site(kind, first + i) if kind in self.sites else None
        if all(site is None for site in products.values()):
            return func(*args, **kwargs)
        return unfused.run(_Emulated(self.emulation, mode.module, products))


class _Emulated(Products):
    """The operations of one composite call; those that no rule touches stay exact."""

    def __init__(
        self,
        emulation: Emulation,
        module: nn.Module,
        sites: dict[tuple[str, int], Site | None],
    ) -> None:
        self.emulation, self.module, self.sites = emulation, module, sites

    def perform(self, index: int, call: Call | OpCall) -> Tensor:
        site = self.sites[(call.kind, index)]
        if site is None:
            return call.exact()
        return execute(self.emulation, site, self.module, call)
