"""Floating-point multipliers, against torch float32."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

import numpy as np

import dovetail as dv
from benchmarks import report
from benchmarks.layers import measure


def rules() -> dict[str, dict[str, Any]]:
    """What is measured: the format of the operands, and the product of their significands."""
    table = np.random.default_rng(0).integers(1 << 14, 1 << 16, (128, 128))
    kinds = {
        "bf16": ("exact", "truncate(drop_second=3)", "mitchell", "l_mul"),
        "fp16": ("mitchell",),
        "fp8_e4m3": ("mitchell",),
    }
    found: dict[str, dict[str, Any]] = {
        f"{fmt} {mul}": {"input": fmt, "weight": fmt, "mul": dv.multiplier(mul, format=fmt)}
        for fmt, names in kinds.items()
        for mul in names
    }
    found["bf16 table"] = {
        **{"input": "bf16", "weight": "bf16"},
        "mul": dv.float_multiplier("bf16", mantissa=table),
    }
    return found


def run(threads: Sequence[int], levels: Sequence[str], rounds: int, save: bool) -> None:
    """Measure, print, and with ``save`` write ``results/floats.md``."""
    report.run(
        "floats",
        "Floating-point multipliers: time as a ratio to torch float32",
        [
            "Casts included, weights packed. Every product enters a float32 register in order.",
            report.CLOCKS,
        ],
        lambda count, progress: measure(rules(), count, levels, rounds, progress),
        threads,
        save,
    )
