"""What generated code says to the C++ compiler, so that it makes vectors of loops."""

from __future__ import annotations

import subprocess

import pytest
import torch
from torch import nn

import dovetail as dv
from dovetail.compiler.build.toolchain import compiler, flags
from dovetail.compiler.build.vectorise import vectorised
from helpers import randn

pytest.importorskip("dace")

MASKS = """
void masks(bool *taken, bool * __restrict__ made, bool one, float *x, float *y) {
  for (int v = 0; v < 784; v += 1) {
    bool __a0 = taken[(v + 1)];
    float __a1 = x[v];
    float __o0 = (__a0 ? float(0.0) : __a1);
    bool __o1 = (__o0 <= float(0.0));
    y[v] = __o0;
    made[v] = __o1;
  }
}
"""


def test_masks_are_read_and_written_as_bytes():
    found = vectorised(MASKS)
    assert "bool __a0 = ((const uint8_t *)taken)[(v + 1)] != 0;" in found
    assert "((uint8_t *)made)[v] = __o1;" in found
    assert "    y[v] = __o0;" in found
    assert "float __a1 = x[v];" in found


def test_loops_over_masks_become_vectors(tmp_path):
    if "g++" not in compiler():
        pytest.skip("what it made vectors of is asked of g++")
    source = tmp_path / "masks.cpp"
    source.write_text("#include <cstdint>\n" + vectorised(MASKS), encoding="utf-8")
    wanted = [*flags(), "-O3", "-fopt-info-vec", str(source), "-o", str(tmp_path / "masks.so")]
    done = subprocess.run([compiler(), *wanted], capture_output=True, text=True, check=True)
    assert "loop vectorized" in done.stderr


class Rows(nn.Module):
    """Reductions over rows of every length around whole blocks of partial sums."""

    def forward(self, *xs):
        made = [(x.sum(-1), x.amax(-1), x.double().prod(-1)) for x in xs]
        return tuple(value for row in made for value in row)


def test_what_is_left_of_a_row_counts_once():
    torch.manual_seed(0)
    xs = [randn(5, length) for length in (15, 16, 17, 33, 63, 64, 65, 95, 96, 100)]
    model = Rows().eval()
    made = dv.compile(model, tuple(xs))(*xs)
    for mine, theirs in zip(made, model(*xs), strict=True):
        torch.testing.assert_close(mine, theirs, rtol=1e-5, atol=1e-5)
