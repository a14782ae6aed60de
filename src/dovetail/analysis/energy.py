"""The energy of a model's products over that of exact ones of the same width."""

from __future__ import annotations

from collections.abc import Iterable

from dovetail.emulation.planned import Plan, PlannedOp
from dovetail.kinds import KINDS
from dovetail.multipliers import relative_energy

__all__ = ["mean_energy", "op_energy", "plan_energy"]


def op_energy(op: PlannedOp) -> float | None:
    """That of one operation; ``None`` where it multiplies no codes, or no figure is known."""
    if not KINDS[op.kind].is_product or not op.arithmetic.multiplies_codes:
        return None
    return relative_energy(op.arithmetic.code_multiplier)


def mean_energy(rows: Iterable[tuple[float | None, int]]) -> float | None:
    """Of energies and numbers of products the mean; unknown as soon as that of one row with
    products is.

    >>> mean_energy([(0.5, 10), (1.0, 30), (None, 0)]), mean_energy([(0.5, 10), (None, 1)])
    (0.875, None)
    """
    counted = [(energy, macs) for energy, macs in rows if macs]
    known = [(energy, macs) for energy, macs in counted if energy is not None]
    if not counted or len(known) < len(counted):
        return None
    return sum(energy * macs for energy, macs in known) / sum(macs for _, macs in known)


def plan_energy(plan: Plan) -> float | None:
    """That of all operations of a plan that was made with an example."""
    return mean_energy((op_energy(op), op.macs or 0) for op in plan)
