"""An attribution and a search as reports take them, small and made up."""

from __future__ import annotations

import math
from typing import Any

from dovetail.analysis.report.contents import Search

OPS = ("conv1", "conv2", "conv3", "conv4", "conv5", "head")
VALUES = {"input": "int8", "weight": "int4(channel=0)", "mul": "mul8s_1L2N@v2022", "acc": "int32"}


def attribution(ops: tuple[str, ...] = OPS) -> dict[str, Any]:
    """As ``Attribution.to_dict()`` gives it: harm, help, no change, and what was not measured."""
    rows = [
        _row(op, i, source, value) for i, op in enumerate(ops) for source, value in VALUES.items()
    ]
    return {
        "mode": "exact",
        "metric": "accuracy",
        "higher_is_better": True,
        "samples": 719,
        "exact_metric": 0.9861,
        "emulated_metric": 0.47,
        "exact_loss": None,
        "emulated_loss": None,
        "confidence": 0.95,
        "resamples": 1000,
        "seed": 0,
        "rows": rows,
        "ops": [_whole(op) for op in ops],
        "by_source": {s: {"delta_metric": -0.1, "disabled_delta_metric": None} for s in VALUES},
        "histograms": {op: {"input": histogram(op, "input", "int8", 2.5)} for op in ops},
    }


def _whole(op: str) -> dict[str, Any]:
    return {
        "op": op,
        "kind": "conv",
        "isolated_sqnr_db": 20.0,
        "accumulated_sqnr_db": 10.0,
        "delta_metric": -0.2,
        "ci_low": -0.21,
        "ci_high": -0.19,
        "disabled_delta_metric": 0.1,
        "disabled_ci_low": None,
        "disabled_ci_high": None,
    }


def _row(op: str, index: int, source: str, value: str) -> dict[str, Any]:
    exact = source == "acc"
    delta = {"input": 0.01, "weight": -0.02, "mul": -0.15, "acc": 0.0}[source] * (1 + index) / 6
    return {
        "op": op,
        "kind": "conv",
        "source": source,
        "value": value,
        "isolated_sqnr_db": "inf" if exact else 40.0 - 3 * index,
        "accumulated_sqnr_db": "inf" if exact else 30.0 - 7 * index,
        "delta_metric": delta,
        "ci_low": None if exact else delta - 0.01,
        "ci_high": None if exact else delta + 0.01,
        "disabled_delta_metric": None if exact else -delta / 2,
        "disabled_ci_low": None if exact else -delta / 2 - 0.01,
        "disabled_ci_high": None if exact else -delta / 2 + 0.01,
        "with_sources": ["mul"] if source == "input" else [],
    }


def histogram(op: str, slot: str, form: str | None, high: float | None) -> dict[str, Any]:
    """A bell from -3.3 to 3.3."""
    edges = [-3.3 + 0.11 * k for k in range(61)]
    counts = [int(9999 * math.exp(-((a + 0.055) ** 2))) for a in edges[:-1]]
    low = None if high is None else -high
    return {
        "op": op, "slot": slot, "format": form, "edges": edges, "counts": counts,
        "low": low, "high": high,
    }  # fmt: skip


def front() -> dict[str, Any]:
    """As ``Front.to_dict()`` gives it: eight designs, every second one on the front."""
    trials = [
        {
            "trial": i,
            "values": {"accuracy": 0.5 + 0.05 * i - 0.1 * (i % 2), "energy": 0.2 + 0.1 * i},
            "feasible": i != 1,
            "design": {"conv1.mul": "exact" if i > 4 else "mul8s_1L2N"},
        }
        for i in range(8)
    ]
    objectives = {"accuracy": "max", "energy": "min"}
    return {"objectives": objectives, "front": [0, 2, 4, 6], "trials": trials}


def search() -> Search:
    """The same as reports take it."""
    return Search.of(front())
