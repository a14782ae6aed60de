"""Published facts about the circuits of EvoApproxLib (see ``data/README.md`` for their source)."""

from __future__ import annotations

import csv
from dataclasses import dataclass
from functools import cache, lru_cache
from importlib.resources import files

from dovetail.multipliers.cost import Cost
from dovetail.multipliers.operands import Bits

__all__ = ["CircuitFacts", "all_facts", "exact_circuit"]


@dataclass(frozen=True)
class CircuitFacts:
    """One row of the facts table; errors are the library's published, rounded figures.

    ``mask`` is None for a circuit that is not a masked array of partial products: its figures are
    known here, its products are not. ``mre`` and ``ep`` are fractions.
    """

    name: str
    version: str
    bits: Bits
    signed: bool
    mask: int | None
    rank: int
    cost: Cost
    mae: float
    wce: float
    mre: float
    ep: float

    @property
    def spelling(self) -> str:
        """The full name, ``name@version``: names alone mean different circuits in two versions."""
        return f"{self.name}@{self.version}"


@lru_cache(maxsize=1)
def all_facts() -> dict[str, CircuitFacts]:
    """Every circuit of the facts table by its full name, in the table's order.

    >>> all_facts()["mul8s_1L2H@v1.1"].wce
    255.0
    """
    text = (files("dovetail.multipliers") / "data" / "evoapprox.csv").read_text(encoding="utf-8")
    facts = (_circuit(row) for row in csv.DictReader(text.splitlines()))
    return {circuit.spelling: circuit for circuit in facts}


@cache
def exact_circuit(bits: Bits, signed: bool) -> CircuitFacts | None:
    """The catalogue's exact circuit (v2022) of that width and signedness, if it has one.

    >>> exact_circuit((8, 8), True).spelling
    'mul8s_1KV6@v2022'
    """
    whole = (1 << bits[0] * bits[1]) - 1
    for circuit in all_facts().values():
        kind = (circuit.version, circuit.bits, circuit.signed)
        if kind == ("v2022", bits, signed) and circuit.mask == whole:
            return circuit
    return None


def _circuit(row: dict[str, str]) -> CircuitFacts:
    width = int(row["width"])
    return CircuitFacts(
        name=row["name"],
        version=row["version"],
        bits=(width, width),
        signed=row["signed"] == "1",
        mask=int(row["mask_hex"], 16) if row["mask_hex"] else None,
        rank=int(row["rank"]),
        cost=Cost(
            power_mw=float(row["power_mW"]),
            area_um2=float(row["area_um2"]),
            delay_ns=float(row["delay_ns"]),
            source=f"EvoApproxLib {row['version']}, {row['name']}, PDK45",
        ),
        mae=float(row["MAE"]),
        wce=float(row["WCE"]),
        mre=float(row["MRE_pct"]) / 100,
        ep=float(row["EP_pct"]) / 100,
    )
