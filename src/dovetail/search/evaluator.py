"""Evaluating one design after the other on one model: what they share is made once."""

from __future__ import annotations

import copy
import itertools
from collections.abc import Callable, Iterable, Iterator, Mapping
from contextlib import contextmanager
from dataclasses import dataclass
from typing import Any

import torch
from torch import Tensor, nn

from dovetail.calibration.batches import calibrate_on
from dovetail.emulation import remove_
from dovetail.emulation.apply import apply_traced_
from dovetail.emulation.state import sites
from dovetail.errors import DovetailError, unknown
from dovetail.search.grid import Design, Grid
from dovetail.search.measures import COSTS, Costs, OnData
from dovetail.search.objectives import Objectives
from dovetail.sparsity.scores import DATA_SCORES

__all__ = ["Calibrating", "Evaluate", "Evaluator"]

#: A user's measurement of an emulated model.
Evaluate = Callable[[nn.Module], float | Mapping[str, float]]

#: What a range depends on: the sparsity of the model, and the operation, slot and format.
_RangeKey = tuple[tuple[tuple[str, str], ...], str, str, str]


@dataclass(frozen=True)
class Calibrating:
    """The data that ranges are found on, and how."""

    loader: Iterable[Any]
    batches: int = 4
    observer: str = "minmax"


class Evaluator:
    """Measures designs on the model of a grid, which is emulated in place and left as it was.

    Packed weights stay with the weights. Ranges depend on the casts and on sparsity alone, so a
    calibration serves all designs with the same formats. ``finish`` is done to a calibrated copy
    before it is measured (recovery recipes, retraining). ``settings`` are plain values of all else
    that the figures depend on, by which a study is told from others.
    """

    def __init__(
        self,
        grid: Grid,
        evaluate: Evaluate | OnData,
        objectives: Objectives,
        calibrating: Calibrating | None = None,
        seed: int = 0,
        finish: Callable[[nn.Module], None] | None = None,
        prices: Costs | None = None,
        settings: Mapping[str, Any] | None = None,
    ) -> None:
        self.grid, self.objectives, self.calibrations = grid, objectives, 0
        self.settings = settings or {}
        self._evaluate = evaluate
        self._calibrating, self.seed, self._finish = calibrating, seed, finish
        self._prices = prices or Costs()
        self._ranges: dict[_RangeKey, tuple[Tensor, Tensor]] = {}
        self._costs: dict[Design, dict[str, float]] = {}
        self._check()
        if isinstance(evaluate, OnData):
            evaluate.prepare(grid.model)

    def costs(self, design: Design) -> dict[str, float]:
        """The figures that are known without measuring."""
        if design not in self._costs:
            plan = self.grid.plan(design)
            self._costs[design] = self._prices.figures(plan, self.objectives.names)
        return self._costs[design]

    def measure(self, design: Design) -> dict[str, float]:
        """Every figure that is asked for. The same design gives the same figures, whatever was
        measured before."""
        found = dict(self.costs(design))
        if len(found) == len(self.objectives.names):
            return found
        with self._emulated(design) as model, torch.random.fork_rng(devices=[]):
            torch.manual_seed(self.seed)
            measured = self._evaluate(model)
        found = {**found, **self._named(measured)}
        missing = [name for name in self.objectives.names if name not in found]
        if missing:
            raise unknown("figure", missing[0], found)
        return {name: float(found[name]) for name in self.objectives.names}

    def predict(self, design: Design) -> dict[tuple[str, str], float]:
        """What every source of error of every operation adds to the loss on the calibration
        batches, to first order."""
        from dovetail.analysis.attribution import first_order

        if self._calibrating is None:
            raise DovetailError(
                "a surrogate predicts the loss on calibration batches, and this search has none: "
                "give it calibration="
            )
        batches = itertools.islice(self._calibrating.loader, self._calibrating.batches)
        with self._emulated(design, finished=False) as model, torch.random.fork_rng(devices=[]):
            torch.manual_seed(self.seed)
            return first_order(model, list(batches))

    @contextmanager
    def _emulated(self, design: Design, *, finished: bool = True) -> Iterator[nn.Module]:
        model = self.grid.model
        apply_traced_(model, self.grid.recipe(design), self.grid.found)
        try:
            if self._calibrating is not None:
                self._calibrate(model, self._calibrating)
            if finished and self._finish is not None:
                own = copy.deepcopy(model)
                self._finish(own)
                yield own
            else:
                yield model
        finally:
            remove_(model)

    def _calibrate(self, model: nn.Module, how: Calibrating) -> None:
        """Ranges that an earlier design found, or else a calibration."""
        keys = _range_keys(model)
        if keys is not None and self._ranges.keys() >= keys.keys():
            for key, (site, module, slot) in keys.items():
                site.set_range(module, slot, *self._ranges[key])
                site.ranges = "calibrated"
            return
        calibrate_on(model, how.loader, how.batches, how.observer, self.seed)
        self.calibrations += 1
        for key, (site, module, slot) in (keys or {}).items():
            scale, zero = site.range(module, slot)
            assert scale is not None
            assert zero is not None
            self._ranges[key] = scale.detach().clone(), zero.detach().clone()

    def _named(self, measured: float | Mapping[str, float]) -> Mapping[str, float]:
        """The figures of a user's function by their names."""
        if isinstance(measured, Mapping):
            return measured
        wanted = [name for name in self.objectives.names if name not in COSTS]
        if len(wanted) != 1:
            raise DovetailError(
                f"evaluate gave one number for {', '.join(wanted)}: let it give a mapping of names "
                "to numbers"
            )
        return {wanted[0]: float(measured)}

    def _check(self) -> None:
        """Refuse figures that nobody knows, and choices whose cost is not known."""
        if isinstance(self._evaluate, OnData):
            self._evaluate.check(self.objectives.names)
        if "energy" in self.objectives.directions:
            self._check_widths()
        for design in self.grid.stages():
            self.costs(design)

    def _check_widths(self) -> None:
        """Refuse a figure that does not tell the designs apart."""
        for axis in self.grid.axes:
            for slot in ("input", "weight"):
                values = {choice.words(slot) for choice in axis.choices} - {None}
                if len(values) > 1:
                    raise DovetailError(
                        f"{axis.place}: 'energy' is relative to exact products of the same width, "
                        f"so it tells formats of the {slot} apart no better than none: let the "
                        "objective be energy_pj"
                    )


def _range_keys(model: nn.Module) -> dict[_RangeKey, tuple[Any, nn.Module, str]] | None:
    """What the ranges of an emulated model depend on, and where each belongs; ``None`` where a
    calibration finds more than ranges."""
    found = list(sites(model))
    sparse = [(site.op.key, site.sparsity) for site, _ in found if site.sparsity is not None]
    if any(sparsity.score in DATA_SCORES for _, sparsity in sparse):
        return None
    context = tuple(sorted((key, str(sparsity)) for key, sparsity in sparse))
    return {
        (context, site.op.key, slot, str(getattr(site.arithmetic, slot))): (site, module, slot)
        for site, module in found
        for slot in site.buffers
    }
