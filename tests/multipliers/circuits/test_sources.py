"""Verilog and C written, read back and compared over all pairs of operands."""

from __future__ import annotations

import shutil
import subprocess

import numpy as np
import pytest

import dovetail as dv
from dovetail.multipliers.circuits.unit_gates import unit_gates
from dovetail.multipliers.circuits.verilog import testbench as bench_of

ARRAYS = [
    "mul8s_1KV9",
    "exact(bits=8, signed=False)",
    "array(mask=0xfff0, bits=4, signed=False, constant=3)",
    "array(mask=0, bits=2)",
    "array(mask=0xfcfcf8fcf0e000, bits=8, signed=True, constant=27)",
    "broken_array(bits=(5, 3), drop_columns=2)",
]
needs_cc = pytest.mark.skipif(shutil.which("cc") is None, reason="no C compiler")


@pytest.mark.parametrize("spelling", [*ARRAYS, "truncated(drop_columns=6, compensation=variable)"])
def test_verilog_reads_back(spelling, tmp_path):
    m = dv.multiplier(spelling)
    path = tmp_path / "m.v"
    path.write_text(m.to_verilog("m"), encoding="utf-8")
    back = dv.multiplier(path, check=m)
    assert unit_gates(back.circuit) == unit_gates(m.circuit)


def test_what_was_read_from_verilog_is_priced_by_its_gates(tmp_path):
    path = tmp_path / "m.v"
    path.write_text(
        "module m(input [1:0] a, input [1:0] b, output [3:0] y);\n"
        "assign y = {3'b000, a[0] & b[0] ^ a[1]};\nendmodule\n",
        encoding="utf-8",
    )
    m = dv.multiplier(path)
    assert m.cost.source == (
        "estimated: 3 unit gates, 424 in mul8u_1JJQ@v2022, EvoApproxLib, PDK45"
    )
    assert dv.multiplier(repr(m)).cost == m.cost


@needs_cc
@pytest.mark.parametrize("spelling", [*ARRAYS, "drum(k=4)", "kulkarni(bits=4, signed=False)"])
def test_c_reads_back_and_checks_itself(spelling, tmp_path):
    m = dv.multiplier(spelling)
    path = tmp_path / "m.c"
    path.write_text(m.to_c("m"), encoding="utf-8")
    dv.multiplier(path, check=m, bits=m.bits, signed=m.signed)
    command = ["cc", "-Wall", "-Wextra", "-Werror", "-DDOVETAIL_CHECK", str(path), "-o"]
    subprocess.run([*command, str(tmp_path / "m")], check=True)
    done = subprocess.run([str(tmp_path / "m")], capture_output=True, text=True, check=False)
    assert (done.returncode, done.stdout) == (0, "m: all products are right\n")


@needs_cc
def test_the_check_of_the_c_file_can_fail(tmp_path):
    path = tmp_path / "m.c"
    text = dv.multiplier("truncate", drop_first=2).to_c("m").replace("(a & -4)", "(a & -2)")
    path.write_text(text, encoding="utf-8")
    subprocess.run(["cc", "-DDOVETAIL_CHECK", str(path), "-o", str(tmp_path / "m")], check=True)
    done = subprocess.run([str(tmp_path / "m")], capture_output=True, text=True, check=False)
    assert (done.returncode, done.stdout) == (1, "m: some products are wrong\n")


@needs_cc
def test_wide_arrays_are_c_too(tmp_path):
    m = dv.multiplier("mul16s_GV3")
    path = tmp_path / "m.c"
    path.write_text(m.to_c("m"), encoding="utf-8")
    dv.multiplier(path, check=m, bits=16, signed=True)


def test_a_test_bench_names_its_table():
    m = dv.multiplier("mul8s_1KV9")
    text = bench_of(m.circuit, "m", "m.hex")
    assert '$readmemh("m.hex", expected);' in text
    assert "reg [15:0] expected [0:65535];" in text
    assert "m dut(.a(a), .w(w), .y(y));" in text


def test_refusals():
    with pytest.raises(dv.DovetailError, match="known by its products, not by its gates"):
        dv.multiplier("drum").to_verilog()
    with pytest.raises(dv.DovetailError, match="too many for a table"):
        dv.multiplier("drum(bits=12)").to_c()
    with pytest.raises(dv.DovetailError, match="names no function"):
        dv.multiplier("exact(bits=4)").to_c("4bits")
    table = dv.multiplier(np.zeros((4, 4), dtype=np.int32))
    assert "table(" in table.to_c()
