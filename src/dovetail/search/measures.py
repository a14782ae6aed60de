"""The figures that a search knows by name: those measured on data, and those a plan tells."""

from __future__ import annotations

from collections.abc import Iterable
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from torch import Tensor, nn

from dovetail.analysis import accuracy, perplexity, sqnr_db
from dovetail.analysis.energy import op_energy, plan_energy
from dovetail.analysis.outputs import agreement, outputs
from dovetail.costs import CostReport, cost
from dovetail.emulation.planned import Plan
from dovetail.errors import DovetailError, unknown

__all__ = ["COSTS", "MEASURED", "Costs", "OnData"]

#: What is measured on data.
MEASURED = ("accuracy", "agreement", "perplexity", "sqnr")


class OnData:
    """Measures an emulated model on a loader, as the stages of ``dovetail run`` are."""

    def __init__(self, loader: Iterable[Any], seed: int = 0) -> None:
        self._loader, self._seed = loader, seed
        self._names: tuple[str, ...] = ()
        self._reference: Tensor | None = None

    def check(self, names: Iterable[str]) -> None:
        """Take the names of the figures that are wanted; refused where nobody tells one."""
        self._names = tuple(name for name in names if name not in COSTS)
        for name in self._names:
            if name not in MEASURED:
                raise unknown("figure", name, (*MEASURED, *COSTS))

    def prepare(self, model: nn.Module) -> None:
        """Remember what the exact model gives."""
        if {"agreement", "sqnr"}.intersection(self._names):
            self._reference, _ = outputs(model, self._loader, self._seed)

    def __call__(self, model: nn.Module) -> dict[str, float]:
        """The figures of an emulated model."""
        logits, target = outputs(model, self._loader, self._seed)
        return {name: self._figure(name, logits, target) for name in self._names}

    def _figure(self, name: str, logits: Tensor, target: Tensor) -> float:
        if name == "accuracy":
            return accuracy(nn.Identity(), [(logits, target)]).value
        if name == "perplexity":
            return perplexity(nn.Identity(), [(logits, target)])
        assert self._reference is not None
        if name == "agreement":
            return agreement(self._reference, logits)
        return sqnr_db(self._reference, logits)


@dataclass(frozen=True)
class Costs:
    """What a plan tells without measuring, priced as :func:`dovetail.cost` does it."""

    tables: tuple[str | Path, ...] = ()
    node: float | None = None

    def plain(self) -> dict[str, Any]:
        """As plain values."""
        return {"tables": [str(table) for table in self.tables], "node": self.node}

    def figures(self, plan: Plan, names: Iterable[str]) -> dict[str, float]:
        """Those of some names; refused where one is not known."""
        wanted = [name for name in names if name in COSTS]
        priced = [name for name in wanted if name != "energy"]
        report = cost(plan, tables=list(self.tables) or None, node=self.node) if priced else None
        found = {}
        for name in wanted:
            found[name] = _energy(plan) if report is None or name == "energy" else _of(report, name)
        return found


def _of(report: CostReport, name: str) -> float:
    value = report.total(name) if name in _COUNTED else getattr(report, name)
    if value is None:
        missing = [f"{row.key}: {row.missing[0]}" for row in report if row.missing]
        raise DovetailError(
            f"{name} is not known: {'; '.join(missing[:3]) or 'no operation tells it'}"
        )
    return float(value)


def _energy(plan: Plan) -> float:
    found = plan_energy(plan)
    if found is not None:
        return found
    for op in plan:
        if op.macs and op_energy(op) is None:
            raise DovetailError(
                f"{op.key}: the energy of its products relative to exact ones is not known "
                f"(mul={op.arithmetic.mul}, input={op.arithmetic.input or 'exact'}): ask for "
                "energy_pj instead, which dv.cost estimates"
            )
    raise DovetailError("no operation of the plan multiplies: there is no energy to speak of")


_COUNTED = ("bops", "weight_bytes", "activation_bytes")

#: The figures that a plan tells: the energy of products relative to exact ones of the same width,
#: and what :func:`dovetail.cost` says of the example batch.
COSTS = ("energy", "energy_pj", "memory_pj", "total_pj", "area_um2", "delay_ns", *_COUNTED)
