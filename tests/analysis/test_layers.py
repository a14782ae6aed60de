"""The per-layer table on networks small enough to work out by hand."""

from __future__ import annotations

import math

import pytest
import torch
from torch import Tensor, nn

import dovetail as dv
from dovetail.analysis import layers
from dovetail.analysis.layers import _sources
from dovetail.errors import DovetailError
from dovetail.multipliers import relative_energy

INT8 = dv.rule("*", input="int8", weight="int8")


def two_layers() -> nn.Sequential:
    """Weights whose int8 codes are the weights themselves (largest 127, so scale 1)."""
    model = nn.Sequential(nn.Linear(2, 1, bias=False), nn.Linear(1, 1, bias=False))
    with torch.no_grad():
        model[0].weight.fill_(127)
        model[1].weight.fill_(127)
    return model


X = torch.tensor([[127.0, 3.0], [2.0, 0.0]])


def test_two_layers_by_hand() -> None:
    model = two_layers()
    dv.apply_(model, dv.Recipe(INT8, dv.rule("0", mul="mul8s_1KVM")), X)
    table = layers(model, X)
    first, second = table.rows
    # f(a, w) = (a & ~1) * w. Row 1: (126 + 2) * 127 for 130 * 127; row 2: exact 2 * 127.
    assert (first.macs, first.changed) == (4, 0.5)
    assert first.isolated_db == pytest.approx(10 * math.log10((130**2 + 2**2) / 2**2))
    assert first.accumulated_db == first.isolated_db
    # the exact network gave the range: 130 * 127 / 127. So 16256 -> 125 * 130, 254 -> 2 * 130.
    assert second.isolated_db == pytest.approx(
        10 * math.log10((16256**2 + 254**2) / (6**2 + 6**2)), abs=1e-4
    )
    assert second.accumulated_db == pytest.approx(
        10 * math.log10((16510**2 + 254**2) / (260**2 + 6**2)), abs=1e-4
    )
    assert (second.macs, second.changed, second.energy) == (2, 0.0, 1.0)
    saved = relative_energy(dv.multiplier("mul8s_1KVM"))
    assert saved is not None
    assert first.energy == saved < 1
    assert table.total.macs == 6
    assert table.total.changed == pytest.approx(2 / 6)
    assert table.total.energy == pytest.approx((4 * saved + 2 * 1.0) / 6)
    assert table.total.output_db == second.accumulated_db


def test_what_a_row_says_of_its_rules() -> None:
    model = two_layers()
    recipe = dv.Recipe(
        INT8,
        dv.rule("0", mul="mul8s_1KVM", acc="int32", source="a.yaml:7"),
        dv.rule("0", output="int8", source="a.yaml:9"),
    )
    dv.apply_(model, recipe, X)
    table = layers(model, X)
    assert table["0"].arithmetic == "int8 × int8 by mul8s_1KVM@v2022 in int32 → int8"
    assert table["0"].rule == "rule 1, a.yaml:7, 9"
    assert (table["1"].arithmetic, table["1"].rule) == ("int8 × int8", "rule 1")
    assert (table["0"].kind, table["0"].module) == ("linear", "Linear")
    with pytest.raises(KeyError):
        table["2"]


def test_labels_of_one_file_share_its_name() -> None:
    assert _sources(["d.yaml:7", "d.yaml:9", "d.yaml:7"]) == "d.yaml:7, 9"
    assert _sources(["rule 1", "d.yaml:9", "e.yaml:9"]) == "rule 1, d.yaml:9, e.yaml:9"
    assert _sources([]) == ""


def test_unknown_cost_is_none_and_makes_the_total_none() -> None:
    model = two_layers()
    dv.apply_(model, dv.Recipe(INT8, dv.rule("0", mul=lambda a, w: a * w)), X)
    table = layers(model, X)
    assert (table["0"].energy, table.total.energy) == (None, None)
    assert table["0"].changed == 0.0


def test_an_operation_without_codes_has_no_changed_products() -> None:
    model = two_layers()
    dv.apply_(model, dv.Recipe(dv.rule("0", weight="int8"), dv.rule("1", **INT8.fields)), X)
    table = layers(model, X)
    assert (table["0"].changed, table["0"].energy) == (None, None)
    assert table["0"].isolated_db == math.inf  # these weights are exact in int8
    assert table["0"].arithmetic == "float × int8"
    assert table.total.changed == 0.0


def test_padding_counts_as_products_of_the_zero_points_code() -> None:
    conv = nn.Conv2d(1, 1, 3, padding=1, bias=False)
    with torch.no_grad():
        conv.weight.fill_(1)
    x = torch.ones(1, 1, 1, 1)
    # codes: 127 in the middle, 8 padded zeros around it; weights 127. f(a, w) = (a & ~1) * w
    dv.apply_(conv, dv.Recipe(INT8, dv.rule("*", mul="mul8s_1KVM")), x)
    (row,) = layers(conv, x)
    assert (row.macs, row.changed) == (9, pytest.approx(1 / 9))


def test_grouped_and_depthwise_products_are_counted_per_group() -> None:
    conv = nn.Conv2d(4, 8, 3, groups=4, stride=2, padding=1)
    x = torch.randn(2, 4, 5, 5, generator=torch.Generator().manual_seed(0))
    plan = dv.apply_(conv, dv.Recipe(INT8), x)
    (row,) = layers(conv, x)
    assert row.macs == 2 * 8 * 3 * 3 * 9 == plan.ops[0].macs


class Attention(nn.Module):
    def forward(self, q: Tensor, k: Tensor) -> Tensor:
        return q @ k.mT


def test_products_of_two_activations() -> None:
    model, q, k = Attention(), torch.tensor([[[127.0, 2.0]]]), torch.tensor([[[127.0, 0.0]]])
    dv.apply_(model, dv.Recipe(dv.rule(op="matmul", **INT8.fields, mul="mul8s_1KVM")), (q, k))
    (row,) = layers(model, (q, k))
    assert (row.kind, row.macs, row.changed) == ("matmul", 2, 0.5)
    assert row.isolated_db == pytest.approx(20 * math.log10(127), abs=1e-4)  # 126 * 127 for 127^2
    (same,) = layers(model, {"q": q, "k": k})
    assert same == row


class Twice(nn.Module):
    """Calls one layer twice, or, if its output shows emulation, once more."""

    def __init__(self, restless: bool) -> None:
        super().__init__()
        self.layer = nn.Linear(1, 1, bias=False)
        nn.init.constant_(self.layer.weight, 1.0)
        self.restless = restless

    def forward(self, x: Tensor) -> Tensor:
        y: Tensor = self.layer(self.layer(x))
        if self.restless and not torch.equal(x, y):
            y = self.layer(y)
        return y


def test_calls_of_one_operation_are_summed_up() -> None:
    x = torch.tensor([[127.0], [64.0]])
    model = Twice(restless=False)
    dv.apply_(model, dv.Recipe(INT8, dv.rule("*", mul="mul8s_1KVM")), x)
    rows = layers(model, x).rows
    # codes 127 and 64; the first call makes 126 and 64 of them, the second changes nothing more
    assert sum(row.macs for row in rows) == 4
    assert sum((row.changed or 0) * row.macs for row in rows) == 1


def test_control_flow_that_emulation_changed_has_no_accumulated_sqnr() -> None:
    x = torch.tensor([[127.0], [64.0]])
    model = Twice(restless=True)
    dv.apply_(model, dv.Recipe(INT8, dv.rule("*", mul="mul8s_1KVM")), x)
    rows = layers(model, x).rows
    assert sum(row.macs for row in rows) == 6
    assert rows[-1].accumulated_db is None
    assert math.isfinite(rows[-1].isolated_db) or rows[-1].isolated_db == math.inf


def test_measuring_changes_nothing() -> None:
    model = nn.Sequential(nn.Linear(2, 4), nn.BatchNorm1d(4), nn.Linear(4, 2)).train()
    model[1].eval()
    dv.apply_(model, dv.Recipe(INT8), X)
    before = {k: v.clone() for k, v in model.state_dict().items()}
    first, second = layers(model, X), layers(model, X)
    assert first == second
    assert [model.training, model[0].training, model[1].training] == [True, True, False]
    for key, value in model.state_dict().items():
        assert torch.equal(value, before[key])


def test_a_model_without_emulation_is_refused() -> None:
    with pytest.raises(DovetailError, match="apply_"):
        layers(two_layers(), X)


def test_to_dict_holds_every_field() -> None:
    model = two_layers()
    dv.apply_(model, dv.Recipe(INT8), X)
    numbers = layers(model, X).to_dict()
    assert [row["key"] for row in numbers["rows"]] == ["0", "1"]
    assert numbers["total"]["macs"] == 6


def test_operators_have_a_row_without_products():
    model, x = nn.Sequential(nn.Linear(8, 4), nn.GELU()), torch.linspace(-1, 1, 16).reshape(2, 8)
    rules = [dv.rule("*", input="int8", weight="int8"), dv.rule(op="gelu", output="fp8_e4m3")]
    dv.apply_(model, dv.Recipe(*rules), x)
    table = layers(model, x)
    row = table["1"]
    assert (row.kind, row.macs, row.energy, row.arithmetic) == (
        "gelu",
        0,
        None,
        "output fp8_e4m3fn",
    )
    assert 20 < row.isolated_db < 40
    assert table.total.macs == 64
