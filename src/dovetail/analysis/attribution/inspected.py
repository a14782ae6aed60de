"""What the operations of an emulated model did on a few samples: counts, shares, histograms."""

from __future__ import annotations

from dataclasses import dataclass, field
from typing import Any

import numpy as np
import torch
from torch import Tensor, nn

from dovetail.analysis.attribution.rows import Histogram
from dovetail.analysis.layers import layers
from dovetail.emulation.counting import Counter, counters
from dovetail.emulation.operators import slot_of
from dovetail.emulation.partial import SOURCES
from dovetail.emulation.planned import PlannedOp
from dovetail.emulation.taps import Watched, tap
from dovetail.formats import Format, IntFormat
from dovetail.formats.base import ElementFormat
from dovetail.kinds import KINDS

__all__ = ["Inspected", "inspect"]

_BINS = 64


@dataclass(frozen=True)
class Inspected:
    """By operation: what its casts and registers counted, its two SQNRs (``ratios``, by the names
    of a summary's fields) and its changed products; and the histograms of all operands."""

    counts: dict[str, Counter] = field(default_factory=dict)
    ratios: dict[str, dict[str, float | None]] = field(default_factory=dict)
    changed: dict[str, float | None] = field(default_factory=dict)
    histograms: tuple[Histogram, ...] = ()

    def of(self, op: str, source: str) -> dict[str, Any]:
        """The fields of a row that say what was counted for one source of one operation."""
        counter = self.counts.get(op)
        if counter is None:
            return {}
        if source == "mul":
            return {"changed": self.changed.get(op)}
        if source == "acc":
            return {"values": counter.additions, "overflows": counter.overflows}
        casts = [cast for slot, cast in counter.casts.items() if slot in SOURCES[source]]
        if not casts:
            return {}
        total = sum(casts[1:], casts[0])
        return {
            "values": total.values,
            "saturated": total.saturated,
            "overflows": total.overflows,
        }


def inspect(model: nn.Module, inputs: tuple[Any, ...]) -> Inspected:
    """Look at every operation of an emulated ``model`` on these inputs; in eval mode, without
    gradients."""
    seen: dict[tuple[str, str], _Values] = {}

    def watch(op: PlannedOp, call: Watched) -> None:
        for name, value in {**call.operands, "output": call.output}.items():
            slot = slot_of(name)
            if slot in _weights(op.kind) and (op.key, slot) in seen:
                continue  # a weight is the same at every call
            seen.setdefault((op.key, slot), _Values(op, slot, call)).parts.append(value)

    with tap(model, watch), counters(model) as counts:
        model(*inputs)
    table = layers(model, inputs)
    return Inspected(
        counts=counts,
        ratios={
            row.key: {
                "isolated_sqnr_db": row.isolated_db,
                "accumulated_sqnr_db": row.accumulated_db,
            }
            for row in table
        },
        changed={row.key: row.changed for row in table},
        histograms=tuple(h for values in seen.values() if (h := values.histogram()) is not None),
    )


def _weights(kind: str) -> frozenset[str]:
    return frozenset({"weight", "bias"}).difference(KINDS[kind].activations)


class _Values:
    """The values of one operand over all calls."""

    def __init__(self, op: PlannedOp, slot: str, call: Watched) -> None:
        self.op, self.slot, self.parts = op, slot, list[Tensor]()
        fmt = getattr(call.site.arithmetic, slot, None)
        self.format = fmt if isinstance(fmt, Format) else None
        self.low, self.high = self._range(call)

    def _range(self, call: Watched) -> tuple[float | None, float | None]:
        """The ends of what the format can hold, where each is one number."""
        if isinstance(self.format, IntFormat):
            scale, zero = call.site.range(call.module, self.slot)
            if scale is None or zero is None or scale.dim():
                return None, None
            ends = (self.format.qmin, self.format.qmax)
            low, high = (float(scale) * (end - int(zero)) for end in ends)
            return low, high
        if isinstance(self.format, ElementFormat):
            return self.format.min, self.format.max
        return None, None

    def histogram(self) -> Histogram | None:
        """``None`` where there is no finite value."""
        values = torch.cat([part.detach().float().flatten() for part in self.parts]).cpu()
        values = values[torch.isfinite(values) & (values > torch.finfo(values.dtype).min / 2)]
        if not values.numel():
            return None
        counts, edges = np.histogram(values.numpy().astype(np.float64), _BINS)
        name = None if self.format is None else str(self.format)
        return Histogram(
            self.op.key,
            self.slot,
            name,
            tuple(map(float, edges)),
            tuple(map(int, counts)),
            self.low,
            self.high,
        )
