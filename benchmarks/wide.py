"""Operands of 12 and 16 bits, against torch float32."""

from __future__ import annotations

from collections.abc import Sequence

from benchmarks import report
from benchmarks.layers import measure

MULTIPLIERS = (
    *("exact", "drum(bits=16)", "broken_array(bits=16, drop_columns=10)"),
    *("mitchell(bits=12)", "mitchell(bits=16)", "alm(adder='loa', m=3, bits=16)"),
    *("mbm(bits=16)", "etm(bits=16)"),
)


def rules() -> dict[str, dict[str, str]]:
    """What is measured: operands and multiplier."""
    found = {}
    for mul in MULTIPLIERS:
        operand = "int12" if "12" in mul else "int16"
        found[mul] = {"input": operand, "weight": operand, "mul": mul}
    return found


def run(threads: Sequence[int], levels: Sequence[str], rounds: int, save: bool) -> None:
    """Measure, print, and with ``save`` write ``results/wide.md``."""
    report.run(
        "wide",
        "Operands of 12 and 16 bits: time as a ratio to torch float32",
        ["Quantisation and dequantisation included, weights packed.", report.CLOCKS],
        lambda count, progress: measure(rules(), count, levels, rounds, progress),
        threads,
        save,
    )
