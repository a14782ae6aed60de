"""The table of an emulated model's masks."""

from __future__ import annotations

import pytest
import torch
from torch import nn

import dovetail as dv
from dovetail.analysis import layers, masks
from dovetail.errors import DovetailError

X = torch.ones(1, 4, 8, 8)


def test_rows_show_what_is_kept() -> None:
    torch.manual_seed(0)
    model = nn.Sequential(nn.Conv2d(4, 8, 3), nn.Flatten(), nn.Linear(288, 4))
    rules = dv.rule("0", sparsity="1:4"), dv.rule("2", sparsity="blocks(4, 96, 0.3)")
    dv.apply_(model, dv.Recipe(*rules), X)
    table = masks(model, X)
    assert [row.key for row in table] == ["0", "2"]
    assert table["0"].statistics.n_of_m == {4: 1}
    assert table["0"].mask.shape == (8, 4, 3, 3)
    assert table["2"].statistics.empty_inputs == 192
    assert table.density == (72 + 384) / (288 + 1152)
    assert table.to_dict()["rows"][1]["density"] == 1 / 3
    assert "blocks(4, 96, 0.3)  384/1152  33.33%" in str(table)
    assert layers(model, X)["0"].arithmetic == "float × float kept 1:4"


def test_a_dense_model_has_none() -> None:
    model = nn.Sequential(nn.Linear(4, 4))
    dv.apply_(model, dv.Recipe(dv.rule("*", weight="int8")))
    with pytest.raises(DovetailError, match="called no sparse operation"):
        masks(model, torch.ones(1, 4))
