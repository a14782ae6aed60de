"""ONNX's own node tests: a sample here, all of them behind ``slow``."""

from __future__ import annotations

import pytest
from benchmarks.onnx_compiled import outcomes as compiled
from benchmarks.onnx_compiled import together
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


#: Of every kind: types, inputs that are constants, empty tensors, calls, loops, sequences.
COMPILED = """
    test_add_uint16 test_argmax_keepdims_example test_bitcast_uint32_to_int32 test_cumsum_2d_axis_0
    test_cast_FLOAT16_to_FLOAT8E5M2 test_gru_with_initial_bias test_gathernd_example_int32
    test_layer_normalization_4d_axis2 test_reduce_sum_square_empty_set
    test_resize_upsample_sizes_cubic test_top_k test_scan9_sum test_maxpool_2d_pads
    test_qlinearmatmul_2D_uint8_float32
"""


def test_a_sample_compiled(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("DOVETAIL_CXXFLAGS", "-O1")
    chosen = COMPILED.split()
    found = list(together([case for case in cases() if case.name in chosen]))
    assert len(found) == len(chosen)
    assert {o.name: o.reason for o in found if o.state != "passed"} == {}
    assert [o.fixed for o in found if o.name == "test_cumsum_2d_axis_0"] == [("axis",)]


@pytest.mark.slow
def test_most_compile() -> None:
    found = [o for o in compiled(cases()) if o.state != "elsewhere"]
    assert sum(o.state == "passed" for o in found) >= 0.85 * len(found)
