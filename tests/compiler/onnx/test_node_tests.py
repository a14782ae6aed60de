"""ONNX's own node tests: a sample here, all of them behind ``slow``."""

from __future__ import annotations

from functools import cache
from typing import Any

import pytest
from benchmarks.onnx_nodes import cases, page, run

#: Of rounding alone, and one choice: see benchmarks/results/onnx-nodes.md.
ROUNDED = ("fp16", "bf16", "FLOAT4E2M1", "deform_conv_with_padding", "dft_inverse")


@cache
def _by_name() -> dict[str, Any]:
    return {case.name: case for case in cases()}


def _sample() -> list[str]:
    """One test in eight, spread over all operators."""
    return [case.name for case in cases()][::8]


@pytest.mark.parametrize("name", _sample())
def test_a_sample(name: str) -> None:
    outcome = run(_by_name()[name])
    rounded = any(part in name for part in ROUNDED)
    assert outcome.state in ("passed", "elsewhere") or rounded, outcome.reason


@pytest.mark.slow
def test_all_but_rounding() -> None:
    outcomes = [run(case) for case in cases()]
    left = [o for o in outcomes if o.state not in ("passed", "elsewhere")]
    assert not [o for o in left if not any(part in o.name for part in ROUNDED)]
    inside = [o for o in outcomes if o.state != "elsewhere"]
    assert len(left) < 0.02 * len(inside)
    assert "| Conv |" in page(outcomes, "`dv.load_onnx`")
