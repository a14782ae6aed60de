"""Tables put together: what is declared first wins, what it is based on follows, scaled."""

from __future__ import annotations

import itertools
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import TYPE_CHECKING, Any, TypeAlias

from dovetail._numbers import is_number
from dovetail.accumulators import accumulator
from dovetail.costs.operands import Operand, Pair, read, read_pair
from dovetail.errors import DovetailError, unknown
from dovetail.kinds import KINDS
from dovetail.multipliers import any_multiplier

if TYPE_CHECKING:
    from dovetail.costs.files import CostTable, Figures, Memory, Scale

__all__ = ["READERS", "Declared", "Tables", "tables_for"]

#: A table by its name, its file, or itself.
Given: TypeAlias = "str | Path | CostTable"
#: Factors of energy, area and delay.
Factors: TypeAlias = "tuple[float, float | None, float | None]"

#: The node whose figures the catalogue's circuits have.
CIRCUITS = 45.0


@dataclass(frozen=True)
class Declared:
    """Figures and the name of the table that they stand in."""

    energy_pj: float | None
    area_um2: float | None
    delay_ns: float | None
    table: str


@dataclass
class Tables:
    """Everything declared, by operand; ``sources`` cite, ``rules`` say how figures were scaled."""

    node: float | None
    add: dict[Operand, Declared] = field(default_factory=dict)
    multiply: dict[Pair, Declared] = field(default_factory=dict)
    circuits: dict[str, Declared] = field(default_factory=dict)
    adders: dict[str, Declared] = field(default_factory=dict)
    functions: dict[str, Declared] = field(default_factory=dict)
    memory: dict[str, Memory] = field(default_factory=dict)
    weights: str | None = None
    activations: str | None = None
    operands: str | None = None
    sources: list[str] = field(default_factory=list)
    rules: list[str] = field(default_factory=list)

    def _declared(self) -> dict[str, dict[Any, Declared]]:
        return {name: getattr(self, name) for name in READERS}

    def take(self, table: CostTable, scale: Factors) -> None:
        """What is not known yet, times the factors of energy, area and delay."""
        for name, own in self._declared().items():
            for key, entry in _by_meaning(table, name).items():
                own.setdefault(key, _declared(entry, table, scale))
        for name, memory in table.memory.items():
            scaled = {"energy_pj_per_byte": memory.energy_pj_per_byte * scale[0]}
            self.memory.setdefault(name, memory.model_copy(update=scaled))
        for slot in ("weights", "activations", "operands"):
            if getattr(self, slot) is None:
                setattr(self, slot, getattr(table.placement, slot))
        self.sources.append(f"{table.name}: {table.source}")


def _circuit(text: str) -> str:
    return repr(any_multiplier(text))


def _adder(text: str) -> str:
    return accumulator(text).spelling


def _function(text: str) -> str:
    if text not in KINDS or KINDS[text].is_product:
        raise unknown("function", text, [k for k, v in KINDS.items() if not v.is_product])
    return text


#: What the keys of each section of a table mean, and so when two of them mean the same.
READERS: Mapping[str, Callable[[str], Any]] = {
    "add": read,
    "multiply": read_pair,
    "circuits": _circuit,
    "adders": _adder,
    "functions": _function,
}


def _by_meaning(table: CostTable, section: str) -> dict[Any, Figures]:
    """A section by what its keys mean; a product that is declared one way round only counts for
    both."""
    found: dict[Any, Figures] = {}
    texts: dict[Any, str] = {}
    for text, entry in getattr(table, section).items():
        key = READERS[section](text)
        if found.setdefault(key, entry) != entry:
            raise DovetailError(
                f"table '{table.name}': {section}: '{texts[key]}' and '{text}' are the same, and "
                "their figures are not"
            )
        texts[key] = text
    if section == "multiply":
        for pair, entry in list(found.items()):
            found.setdefault(pair[::-1], entry)
    return found


def tables_for(tables: Given | Sequence[Given] | None, node: float | None) -> Tables:
    """The tables asked for, or the built-in one of the node (45 nm without any).

    >>> tables_for(None, 7).sources[0][:10]
    'jouppi2021'
    >>> tables_for(None, 28)
    Traceback (most recent call last):
    dovetail.errors.DovetailError: no table for 28 nm ships with dovetail (7 nm, 45 nm): declare ...
    """
    from dovetail.costs.files import load_table

    if node is not None and not is_number(node):
        raise DovetailError(f"node={node!r}: a node is a number of nm")
    if tables is None:
        given = [_of_node(45.0 if node is None else node)]
    else:
        several: Any = tables if isinstance(tables, (list, tuple)) else [tables]
        given = [load_table(item) for item in several]
    chains = [_chain(table) for table in given]
    nodes = {of for _, of in chains if of is not None}
    if node is not None:
        nodes.add(float(node))
    if len(nodes) > 1:
        shown = ", ".join(f"{n:g} nm" for n in sorted(nodes))
        raise DovetailError(
            f"figures of different nodes do not mix ({shown}): in a table of your own, say "
            f"'based_on:' the other one and 'scale: {{energy: ..., source: ...}}'"
        )
    found = Tables(next(iter(nodes), None))
    for chain, _ in chains:
        scale: Factors = (1.0, 1.0, 1.0)
        for table in chain:
            found.take(table, scale)
            if table.scale is not None:
                found.rules.append(_rule(table, table.scale))
                scale = _times(scale, table.scale)
    return _placed(found)


def _of_node(node: float) -> CostTable:
    from dovetail.costs.files import load_table, table_names

    known = [load_table(name) for name in table_names()]
    for table in known:
        if table.node == node:
            return table
    nodes = ", ".join(f"{n:g} nm" for n in sorted(t.node for t in known if t.node))
    raise DovetailError(
        f"no table for {node:g} nm ships with dovetail ({nodes}): declare one in YAML, with "
        f"'based_on: horowitz2014' and 'scale: {{energy: <factor>, source: <who says so>}}', and "
        f"give it as tables='mine.yaml'"
    )


def _chain(table: CostTable) -> tuple[list[CostTable], float | None]:
    """The table, what it is based on and so on; and the node that all of it is for."""
    from dovetail.costs.files import load_table

    chain = [table]
    while chain[-1].based_on is not None:
        base = load_table(chain[-1].based_on)
        if base.name in [known.name for known in chain]:
            raise DovetailError(f"table '{table.name}': based_on leads back to '{base.name}'")
        chain.append(base)
    for upper, lower in itertools.pairwise(chain):
        moved = upper.node is not None and lower.node is not None and upper.node != lower.node
        if moved and upper.scale is None:
            raise DovetailError(
                f"table '{upper.name}' is for {upper.node:g} nm and based on '{lower.name}', for "
                f"{lower.node:g} nm: declare 'scale: {{energy: <factor>, source: <who says so>}}'"
            )
    return chain, next((known.node for known in chain if known.node is not None), None)


def _declared(entry: Figures, table: CostTable, scale: Factors) -> Declared:
    energy, area, delay = scale
    return Declared(
        _both(entry.energy_pj, energy),
        _both(entry.area_um2, area),
        _both(entry.delay_ns, delay),
        table.name,
    )


def _times(scale: Factors, more: Scale) -> Factors:
    return scale[0] * more.energy, _both(scale[1], more.area), _both(scale[2], more.delay)


def _both(one: float | None, other: float | None) -> float | None:
    return None if one is None or other is None else one * other


def _rule(table: CostTable, scale: Scale) -> str:
    parts = [f"{name} x {factor:g}" for name, factor in scale if isinstance(factor, float)]
    return f"figures of {table.based_on} in {table.name}: {', '.join(parts)} ({scale.source})"


def _placed(tables: Tables) -> Tables:
    for slot in ("weights", "activations", "operands"):
        name = getattr(tables, slot)
        if name is not None and name not in tables.memory:
            raise DovetailError(
                f"placement: {slot} live in '{name}', which no table declares; memories: "
                f"{', '.join(tables.memory) or 'none'}"
            )
    return tables
