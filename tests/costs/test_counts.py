"""Multiplications, bit operations and bytes; d-Matrix's own figures among them."""

from __future__ import annotations

import json

import pytest
import torch
from torch import nn

import dovetail as dv


def applied(net, x, *rules):
    dv.apply_(net, dv.Recipe(*rules), x)
    return dv.cost(net)


def test_a_halved_linear_layer_in_blocks():
    half = dv.rule(input="BFP16_128", weight="BFP12_128", sparsity="BTOPK{4:8,-1}(U)")
    row = applied(nn.Linear(8, 24), torch.ones(8, 8), half)["."]
    assert (row.macs, row.density, row.flops, row.weights, row.weight_bytes) == (
        1536,
        0.5,
        768,
        96,
        48.75,
    )
    assert row.bops == pytest.approx(768 * 8.0625 * 4.0625)


def test_a_grouped_convolution():
    net = nn.Conv2d(4, 6, 3, groups=2, dtype=torch.float64)
    rule = dv.rule(input="int8", weight="int4", weight_storage="bf16")
    row = applied(net, torch.ones(2, 4, 5, 5, dtype=torch.float64), rule)["."]
    assert row.macs == 2 * 6 * 3 * 3 * (2 * 9)
    assert row.bops == row.macs * 8 * 4
    assert row.weight_bytes == 6 * 2 * 9 * 2


def test_what_has_no_format_counts_its_dtype_and_a_product_stores_nothing():
    class Net(nn.Module):
        def __init__(self):
            super().__init__()
            self.fc = nn.Linear(4, 4, dtype=torch.bfloat16)

        def forward(self, x):
            h = self.fc(x)
            return h @ h.T

    table = applied(Net(), torch.ones(2, 4, dtype=torch.bfloat16), dv.rule("*", output="fp8_e4m3"))
    assert table["fc"].bops == 2 * 16 * 16 * 16
    assert table["fc"].weight_bytes == 32
    assert table[".:matmul"].weights == 0
    assert table.total("macs") == 2 * 16 + 2 * 2 * 4
    assert table["fc"].activation_bytes == 2 * 4 * 2 + 2 * 4  # bfloat16 in, fp8 out
    assert table[".:matmul"].activation_bytes == 2 * 2 * 4 * 2 + 2 * 2
    assert json.loads(json.dumps(table.to_dict()))["total"]["weights"] == 16
    totals = next(line.split() for line in str(table).splitlines() if line.startswith("total"))
    assert totals == ["total", "48", "48", "12,288", "16", "32", "60"]


def test_what_chance_keeps_is_unknown():
    row = applied(nn.Linear(4, 4), torch.ones(1, 4), dv.rule(sparsity="BERN"))["."]
    assert (row.density, row.flops, row.energy_pj) == (None, None, None)
    assert row.missing == ("declare 'sparsity' with a fixed share of weights",)
    assert row.macs == 16
