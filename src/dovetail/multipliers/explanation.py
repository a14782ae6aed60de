"""`Multiplier.explain`: the structure that was found, and the plan that follows from it."""

from __future__ import annotations

from dataclasses import asdict, dataclass
from typing import Any

from dovetail.multipliers.base import Multiplier
from dovetail.multipliers.structure import Structure, structure_of

__all__ = ["Explanation", "explain"]


@dataclass(frozen=True, repr=False)
class Explanation:
    """A multiplier's structure, and the realisations that hold for it with their predicted costs.

    ``plans``: (name, cost), the one that runs first; a cost is the time of a large layer as a
    ratio to torch's float32, on this machine's CPU, for operands of the full symmetric range.
    """

    spelling: str
    structure: Structure
    plans: tuple[tuple[str, float], ...]

    def lines(self) -> list[tuple[str, str, str]]:
        """What is said, as (subject, finding, remark)."""
        found, lines = self.structure, []
        if found.factors is None:
            lines.append(("factors", "none", "no exact integer factors of useful rank"))
        else:
            rank, bits = found.factors
            lines.append(("factors", f"rank {rank}", f"exact, {bits}-bit integers"))
        lines += _int8_lines(found)
        if found.mask is not None:
            lines.append(("partial products", f"mask 0x{found.mask:x}", "an array of them"))
        if found.unread is not None and any(found.unread):
            first, second = found.unread
            lines.append(("unread bits", f"{first} and {second}", "lowest, of first and second"))
        if found.table is None:
            lines.append(("table", "none", "above 16 bits of both operands; nothing else is known"))
        else:
            lines += _table_lines(found)
        lines.append(("emulated by", self.plans[0][0], f"predicted {_cost(self.plans[0][1])}"))
        lines += [("  or", name, f"predicted {_cost(cost)}") for name, cost in self.plans[1:]]
        return lines

    def __str__(self) -> str:
        lines = self.lines()
        widths = [max(len(line[i]) for line in lines) for i in range(2)]
        rows = (f"  {a:<{widths[0]}}  {b:<{widths[1]}}  {c}".rstrip() for a, b, c in lines)
        return "\n".join([self.spelling, *rows])

    __repr__ = __str__

    def to_dict(self) -> dict[str, Any]:
        """All of it by name.

        >>> from dovetail.multipliers import multiplier
        >>> multiplier("drum(k=4)").explain().to_dict()["table"]["zero_rows"]
        1
        """
        plans = [{"realisation": name, "predicted_cost": cost} for name, cost in self.plans]
        return {**asdict(self.structure), "plans": plans}


def explain(m: Multiplier) -> Explanation:
    """See `Multiplier.explain`.

    >>> from dovetail.multipliers import multiplier
    >>> print(explain(multiplier("mul8s_1KVM")))  # doctest: +ELLIPSIS
    mul8s_1KVM@v2022
      factors           rank 1 ...
    """
    # What a multiplier is knows nothing of what computes it; only this question needs both.
    from dovetail.kernels import planner  # noqa: F401  (registers the realisations)
    from dovetail.kernels.realisation import Operands, candidates

    ranges = [
        (1 - (1 << bits - 1), (1 << bits - 1) - 1) if m.signed else (0, (1 << bits) - 1)
        for bits in m._width()
    ]
    operands = Operands(ranges[0], ranges[1])
    plans = tuple((r.name, r.cost(m, operands)) for r in candidates("mac", m, operands))
    return Explanation(repr(m), structure_of(m), plans)


def _int8_lines(found: Structure) -> list[tuple[str, str, str]]:
    whole, symmetric = found.int8
    if whole is None and symmetric is None:
        return []
    if whole == symmetric:
        return [("int8 factors", f"rank {whole}", "exact")]
    text = "none" if whole is None else f"rank {whole}"
    return [
        ("int8 factors", text, "exact, all codes"),
        ("  symmetric", f"rank {symmetric}", "exact, without the lowest code of either operand"),
    ]


def _table_lines(found: Structure) -> list[tuple[str, str, str]]:
    table = found.table
    assert table is not None
    span, rest = (high - low for low, high in (table.error, table.residue))
    byte = (
        "one byte"
        if span < 256
        else "one byte, less a term of each operand"
        if rest < 256
        else "wide"
    )
    few = min(table.error_rows, table.error_columns)
    classes = "at most 16" if few <= 16 else "at most 32" if few <= 32 else "many"
    lines = [
        ("rank", str(table.rank), "of the table"),
        ("commutative", "yes" if table.commutative else "no", ""),
        ("error", f"{table.error[0]:+,} to {table.error[1]:+,}", byte),
        (
            "error classes",
            f"{table.error_rows} x {table.error_columns}",
            f"{classes}: distinct error rows x columns, less a term of each operand",
        ),
        ("f(0, 0)", f"{table.at_zero:,}", ""),
    ]
    if table.zero_rows > 1 or table.zero_columns > 1:
        count = f"{table.zero_rows} x {table.zero_columns}"
        lines.append(("zero rows", count, "operands, first x second, whose products are all 0"))
    return lines


def _cost(cost: float) -> str:
    return f"{cost:,.2f} x float32" if cost < 100 else f"{cost:,.0f} x float32"
