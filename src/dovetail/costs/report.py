"""The result of `dv.cost`: a row for each operation, totals, and everything that was assumed."""

from __future__ import annotations

import math
from collections.abc import Iterator, Sequence
from dataclasses import asdict, dataclass
from typing import Any

from dovetail._text_table import Column, text_table

__all__ = ["CostReport", "CostRow"]


@dataclass(frozen=True)
class CostRow:
    """One operation on the example batch; ``None`` where something is not known.

    ``macs`` are all products of the dense operation, ``flops`` those of weights that are kept
    (``macs`` times ``density``); ``bops`` is ``flops`` times the bits of an input times the bits of
    a weight; ``weights`` counts the weights that are kept, ``weight_bytes`` what they take in the
    format that they are stored in, shared scales included; ``activation_bytes`` are what it reads
    and writes beside weights. ``multiply_pj``, ``accumulate_pj`` and ``memory_pj`` are energies of
    the batch, ``exact_pj`` that of exact products of the same formats; ``area_um2`` is that of one
    multiplier and its accumulator's adder, ``delay_ns`` that of one product. ``how`` says where the
    figures come from, ``missing`` what has to be declared for those that are not known.
    """

    key: str
    kind: str
    macs: int | None
    density: float | None
    flops: float | None
    bops: float | None
    weights: float | None
    weight_bytes: float | None
    activation_bytes: float | None
    multiply_pj: float | None
    accumulate_pj: float | None
    memory_pj: float | None
    exact_pj: float | None
    area_um2: float | None
    delay_ns: float | None
    how: tuple[str, ...]
    missing: tuple[str, ...]

    @property
    def energy_pj(self) -> float | None:
        """Energy of the operation's arithmetic: multiplying and accumulating."""
        return _sum((self.multiply_pj, self.accumulate_pj))

    @property
    def relative(self) -> float | None:
        """Energy of the products over that of exact ones of the same formats."""
        if self.multiply_pj is None or not self.exact_pj:
            return None
        return self.multiply_pj / self.exact_pj


_COLUMNS = (
    "macs",
    "flops",
    "bops",
    "weights",
    "weight_bytes",
    "activation_bytes",
    "multiply_pj",
    "accumulate_pj",
    "energy_pj",
    "memory_pj",
)
_COUNTED = _COLUMNS[:6]


@dataclass(frozen=True)
class CostReport:
    """The rows in the order of the plan; ``assumptions`` name sources and rules; ``node`` in nm.

    ``uncounted`` are operations whose arithmetic is in no total because nothing is declared for it,
    by kind.
    """

    rows: tuple[CostRow, ...]
    node: float | None
    assumptions: tuple[str, ...]
    uncounted: tuple[str, ...] = ()

    def __iter__(self) -> Iterator[CostRow]:
        return iter(self.rows)

    def __len__(self) -> int:
        return len(self.rows)

    def __getitem__(self, key: str) -> CostRow:
        for row in self.rows:
            if row.key == key:
                return row
        raise KeyError(key)

    def total(self, name: str) -> float | None:
        """The sum of one column: of counts over the operations of which they are known, of
        energies None as soon as one is not known."""
        values = [getattr(row, name) for row in self.rows]
        if name in _COUNTED:
            return math.fsum(value for value in values if value is not None)
        return _sum(values)

    @property
    def energy_pj(self) -> float | None:
        """Energy of all arithmetic on the example batch; None if that of one operation is not
        known (`missing` says what to declare)."""
        return self.total("energy_pj")

    @property
    def memory_pj(self) -> float | None:
        """Energy of reading weights and activations and writing results."""
        return self.total("memory_pj")

    @property
    def total_pj(self) -> float | None:
        """Arithmetic and memory together."""
        return _sum((self.energy_pj, self.memory_pj))

    @property
    def relative(self) -> float | None:
        """Energy of all products over that of exact ones of the same formats."""
        made = [row for row in self.rows if row.exact_pj != 0]
        own, exact = (_sum(getattr(r, n) for r in made) for n in ("multiply_pj", "exact_pj"))
        return None if own is None or not exact else own / exact

    @property
    def area_um2(self) -> float | None:
        """Area of one multiplier and adder for each kind of them that some operation needs."""
        kinds = {(row.area_um2, row.how[:2]) for row in self.rows if row.macs}
        return _sum(area for area, _ in kinds)

    @property
    def delay_ns(self) -> float | None:
        """The slowest product's."""
        known = [row.delay_ns for row in self.rows if row.macs]
        return None if not known or None in known else max(d for d in known if d is not None)

    @property
    def missing(self) -> tuple[str, ...]:
        """What has to be declared before every total is known, by operation."""
        return tuple(f"{row.key}: {text}" for row in self.rows for text in row.missing)

    def to_dict(self) -> dict[str, Any]:
        """Plain values, for JSON."""
        rows = [
            {**asdict(row), "energy_pj": row.energy_pj, "relative": row.relative}
            for row in self.rows
        ]
        total = {name: self.total(name) for name in _COLUMNS}
        more = {n: getattr(self, n) for n in ("total_pj", "relative", "area_um2", "delay_ns")}
        return {
            "rows": rows,
            "total": {**total, **more},
            "node_nm": self.node,
            "assumptions": list(self.assumptions),
            "missing": list(self.missing),
            "uncounted": list(self.uncounted),
        }

    def table(self, width: int = 100) -> str:
        """Tables of counts and of figures, ``width`` characters wide, and what was assumed."""
        lines = [self._counts(width), "", self._figures(width), ""]
        for title, found in (
            ("not known", self.missing),
            ("not counted", self.uncounted),
            ("assumed", self.assumptions),
        ):
            if found:
                lines += [f"{title}:", *(f"  {line}" for line in found)]
        return "\n".join(lines) + "\n"

    def _counts(self, width: int) -> str:
        names = [name.replace("_", "\n") for name in _COUNTED]
        rows = [(row.key, *(_shown(getattr(row, name)) for name in _COUNTED)) for row in self.rows]
        total = ("total", *(_shown(self.total(name)) for name in _COUNTED))
        return _table(names, [*rows, total], width, ("bops", "weights", "flops"))

    def _figures(self, width: int) -> str:
        names = ("multiply_pj", "accumulate_pj", "memory_pj")
        rows = [
            (
                row.key,
                *(_shown(getattr(row, name)) for name in names),
                _ratio(row.relative),
                _shown(row.area_um2),
                _ratio(row.delay_ns),
            )
            for row in self.rows
        ]
        last = (_ratio(self.relative), _shown(self.area_um2), _ratio(self.delay_ns))
        total = ("total", *(_shown(self.total(name)) for name in names), *last)
        heads = ("multiply\npJ", "accumulate\npJ", "memory\npJ", "of exact", "um2", "ns")
        return _table(heads, [*rows, total], width, ("um2", "ns", "of exact"))

    def __str__(self) -> str:
        return self.table()


def _table(
    names: Sequence[str], rows: Sequence[tuple[str, ...]], width: int, spare: Sequence[str]
) -> str:
    columns = [Column("operation", 10), *map(Column, names)]
    for column, cells in zip(columns, zip(*rows, strict=True), strict=True):
        column.cells += cells
    return text_table(columns, width, spare)


def _sum(values: Any) -> float | None:
    found = list(values)
    return None if None in found else math.fsum(found)


def _shown(value: float | None) -> str:
    return "–" if value is None else f"{value:,.0f}"


def _ratio(value: float | None) -> str:
    return "–" if value is None else f"{value:.2f}"
