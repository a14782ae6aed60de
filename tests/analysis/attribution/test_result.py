"""Attributions as values: totals, order, tables and files."""

from __future__ import annotations

import csv
import json
import math
from dataclasses import replace
from pathlib import Path

import pytest

from dovetail.analysis.attribution import Attribution, AttributionRow, Histogram, OpSummary
from dovetail.errors import DovetailError


def row(op: str, source: str, delta: float, **more: object) -> AttributionRow:
    return AttributionRow(op, "linear", source, "int8", 30.0, math.inf, delta, -1.0, 1.0, **more)  # type: ignore[arg-type]


ROWS = (
    row("a", "input", -0.25, disabled_delta_metric=0.5),
    row("a", "mul", 0.125, disabled_delta_metric=0.25, with_sources=("acc",), delta_loss=2.0),
    row("b", "input", -0.5),
)


def made(rows: tuple[AttributionRow, ...] = ROWS, higher: bool | None = True) -> Attribution:
    whole = OpSummary("a", "linear", 20.0, 10.0, -0.5, -0.75, -0.25, disabled_delta_metric=0.625)
    ops = (whole, OpSummary("b", "conv", None, math.nan))
    histogram = Histogram("a", "input", "int8", (0.0, 1.0, 2.0), (3, 4), -1.0, 2.0)
    return Attribution("exact", "accuracy", higher, 8, 0.9, 0.5, 1.0, 2.0, rows, ops, (histogram,))


def test_totals_sum_what_is_known() -> None:
    found = made()
    assert found.by_op["a"]["delta_metric"] == -0.125
    assert found.by_op["a"]["disabled_delta_metric"] == 0.75
    assert found.by_op["a"]["accumulated_sqnr_db"] == 10.0
    assert found.by_op["a"]["whole"]["disabled_delta_metric"] == 0.625
    assert found.by_op["b"]["disabled_delta_metric"] is None
    assert found.by_source == {
        "input": {
            "delta_metric": -0.75,
            "delta_loss": None,
            "disabled_delta_metric": 0.5,
            "disabled_delta_loss": None,
        },
        "mul": {
            "delta_metric": 0.125,
            "delta_loss": 2.0,
            "disabled_delta_metric": 0.25,
            "disabled_delta_loss": None,
        },
    }


@pytest.mark.parametrize(
    ("higher", "first"),
    [(True, ["b", "a", "a"]), (False, ["a", "a", "b"]), (None, ["b", "a", "a"])],
)
def test_the_most_harmful_come_first(higher: bool | None, first: list[str]) -> None:
    assert [each.op for each in made(higher=higher).sorted()] == first


def test_sorting_by_a_field_puts_what_lacks_it_last() -> None:
    assert [each.source for each in made().sorted("delta_loss")] == ["mul", "input", "input"]
    assert [each.op for each in made().sorted("op")] == ["a", "a", "b"]
    with pytest.raises(DovetailError, match="unknown field to sort by 'delta_los'; did you mean"):
        made().sorted("delta_los")


def test_rows_are_found_by_operation_and_source() -> None:
    assert made()["a", "mul"].delta_metric == 0.125
    assert len(made()) == 3
    with pytest.raises(KeyError):
        made()["a", "fn"]


def test_dictionaries_are_strict_json() -> None:
    values = made().to_dict()
    assert json.loads(json.dumps(values, allow_nan=False)) == values
    assert values["rows"][0]["accumulated_sqnr_db"] == "inf"
    assert values["by_op"]["b"]["accumulated_sqnr_db"] == "nan"
    assert values["histograms"]["a"]["input"]["counts"] == [3, 4]


def test_files(tmp_path: Path) -> None:
    made().save(tmp_path / "found.json")
    assert json.loads((tmp_path / "found.json").read_text()) == made().to_dict()
    made().save(tmp_path / "found.csv")
    lines = list(csv.DictReader((tmp_path / "found.csv").read_text().splitlines()))
    assert [line["delta_metric"] for line in lines] == ["-0.25", "0.125", "-0.5"]
    assert lines[1]["with_sources"] == "acc"
    with pytest.raises(DovetailError, match=r"did you mean '\.json'"):
        made().save(tmp_path / "found.jsn")


def test_tables_show_totals_and_what_goes_along() -> None:
    text = made().table(120)
    assert next(line.split()[-1] for line in text.splitlines() if "mul" in line) == "acc"
    assert "in all" in text
    (together,) = [line for line in text.splitlines() if "a  " in line and "together" in line]
    assert together.split() == ["a", "together", "20.0", "-0.5000", "-0.7500..-0.2500", "+0.6250"]
    assert "exact 0.9, emulated 0.5 (n=8)" in text
    assert str(made()) == made().table()
    assert "one point" not in text
    point = replace(made().rows[0], ci_low=0.0, ci_high=0.0)
    said = "An interval that is one point: no sample changed, so at 95 % less than 38 % of all do."
    assert said in replace(made(), rows=(point,)).table()
    assert "one point" not in replace(made(), rows=(point,), metric="loss").table()
