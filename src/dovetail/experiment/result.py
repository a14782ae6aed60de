"""What a run found: plain values, the same for the same file and seed."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Any

from dovetail._plain import plain

if TYPE_CHECKING:
    from dovetail.analysis import Attribution, Interval
    from dovetail.analysis.layers import LayerTable
    from dovetail.costs import CostReport
    from dovetail.emulation import Plan
    from dovetail.interchange.result import Exported
    from dovetail.multipliers import FloatMultiplier, Multiplier
    from dovetail.recovery import Recovery
    from dovetail.training.fit import FitResult

__all__ = ["RunResult", "Stage"]


@dataclass(frozen=True)
class Stage:
    """The network measured on the test data in one state of the experiment.

    `agreement` is the share of test samples on which the largest logit is fp32's, `sqnr_db` the
    signal-to-noise ratio of the logits with fp32's as the signal, `energy` the energy of all
    products relative to exact ones of the same width (None where no cost is known), `perplexity`
    that of the targets (None unless it is asked for).
    """

    name: str
    accuracy: Interval
    agreement: float
    sqnr_db: float
    energy: float | None
    perplexity: float | None = None


@dataclass(frozen=True)
class RunResult:
    """Everything that `dovetail run` prints and writes.

    `layers` is the per-layer analysis of the recipe before recovery and retraining, `cost` what the
    operations take on one batch (None unless energy is measured), `attribution`
    that of the recovered network (None unless it is measured); `recovered` are the post-training
    recipes as carried out; `met` and `missed` hold one sentence for each
    condition of `require`, judged on the last stage; `resolved` is the experiment file with every
    default spelled out; `report` the folder for its files;
    `exports` are the forms that the last stage's network was written in.
    """

    source: str
    resolved: str
    model: str
    data: str
    data_sha256: str | None
    trained: bool
    seed: int
    stages: tuple[Stage, ...]
    layers: LayerTable
    cost: CostReport | None
    attribution: Attribution | None
    plan: Plan
    multipliers: Mapping[str, Multiplier | FloatMultiplier]
    recovered: tuple[Recovery, ...]
    fit: FitResult | None
    met: tuple[str, ...]
    missed: tuple[str, ...]
    report: Path
    exports: tuple[Exported, ...] = ()

    def to_dict(self) -> dict[str, Any]:
        """The result as JSON-ready values; infinities and NaN are the texts "inf", "-inf", "nan".

        Nothing in it depends on the time, the machine's name or the folder: the same file and
        seed give the same dictionary.
        """
        return {
            "source": self.source,
            "experiment": self.resolved,
            "model": self.model,
            "data": {"name": self.data, "sha256": self.data_sha256},
            "trained_here": self.trained,
            "seed": self.seed,
            "stages": [plain(_stage(stage)) for stage in self.stages],
            "layers": plain(self.layers.to_dict()),
            "cost": None if self.cost is None else plain(self.cost.to_dict()),
            "plan": plain(self.plan.to_dict()),
            "multipliers": {name: plain(_facts(m)) for name, m in self.multipliers.items()},
            "recovered": [plain(done.to_dict()) for done in self.recovered],
            **({} if self.attribution is None else {"attribution": self.attribution.to_dict()}),
            **({"exports": [each.to_dict() for each in self.exports]} if self.exports else {}),
            "fit": None if self.fit is None else plain(self.fit.to_dict()),
            "met": list(self.met),
            "missed": list(self.missed),
        }


def _stage(stage: Stage) -> dict[str, Any]:
    asked = {} if stage.perplexity is None else {"perplexity": stage.perplexity}
    return {
        "name": stage.name,
        "accuracy": stage.accuracy.to_dict(),
        "agreement": stage.agreement,
        "sqnr_db": stage.sqnr_db,
        "energy": stage.energy,
        **asked,
    }


def _facts(multiplier: Multiplier | FloatMultiplier) -> dict[str, Any]:
    cost, factors = multiplier.cost, multiplier.factors()
    return {
        "errors": multiplier.errors().to_dict(),
        "rank": None if factors is None else factors.rank,
        "cost": None if cost is None else cost.to_dict(),
    }
