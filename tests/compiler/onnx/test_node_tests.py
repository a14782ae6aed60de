"""ONNX's own node tests: a sample here, all of them behind ``slow``."""

from __future__ import annotations

import pytest
from benchmarks.onnx_nodes import cases, page, run

#: Of rounding alone, and one choice: see benchmarks/results/onnx-nodes.md.
ROUNDED = ("fp16", "bf16", "FLOAT4E2M1", "deform_conv_with_padding", "dft_inverse")


PARTS = 16


@pytest.mark.parametrize("part", range(PARTS))
def test_a_sample(part: int) -> None:
    """One test in eight, spread over all operators."""
    for case in cases()[8 * part :: 8 * PARTS]:
        outcome = run(case)
        rounded = any(word in case.name for word in ROUNDED)
        assert outcome.state in ("passed", "elsewhere") or rounded, (case.name, outcome.reason)


@pytest.mark.slow
def test_all_but_rounding() -> None:
    outcomes = [run(case) for case in cases()]
    left = [o for o in outcomes if o.state not in ("passed", "elsewhere")]
    assert not [o for o in left if not any(part in o.name for part in ROUNDED)]
    inside = [o for o in outcomes if o.state != "elsewhere"]
    assert len(left) < 0.02 * len(inside)
    assert "| Conv |" in page(outcomes, "`dv.load_onnx`")
