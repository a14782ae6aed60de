"""`dovetail cost`, and the energies of a run."""

from __future__ import annotations

import json
from pathlib import Path

import pytest

from dovetail.cli.main import main
from experiment_files import DIGITS


@pytest.fixture
def file(tmp_path) -> Path:
    path: Path = tmp_path / "digits.yaml"
    path.write_text(DIGITS)
    return path


def found(capsys, *arguments) -> dict:
    assert main([*map(str, arguments), "--json"]) == 0
    out, err = capsys.readouterr()
    assert err == ""
    return json.loads(out)


def test_tables_and_nodes(file, capsys) -> None:
    cost = found(capsys, "cost", file)
    assert cost["node_nm"] == 45
    head = next(row for row in cost["rows"] if row["key"] == "head")
    assert head["multiply_pj"] == pytest.approx(head["macs"] * 0.2)
    newer = found(capsys, "cost", file, "--node", "7")
    assert newer["node_nm"] == 7
    named = found(capsys, "cost", file, "--table", "jouppi2021")
    assert named == newer
    assert found(capsys, "cost", file, "--set", "cost={node: 7}") == newer


def test_what_is_assumed_is_printed(file, capsys) -> None:
    assert main(["cost", str(file)]) == 0
    out, err = capsys.readouterr()
    assert err == ""
    assert "digits-cnn on a batch of 64x1x8x8" in out
    assert "horowitz2014: M. Horowitz" in out
    assert "mul8s_1L2N@v2022: 0.188 of the exact product" in out
    assert "not counted:" in out


def test_refusals(file, capsys) -> None:
    assert main(["cost", str(file), "--node", "28"]) == 2
    assert "no table for 28 nm" in capsys.readouterr().err
    assert main(["run", str(file), "--set", "cost.tables=[horowitz]"]) == 2
    out, err = capsys.readouterr()
    assert out == ""
    assert "unknown table of costs 'horowitz'; did you mean 'horowitz2014'" in err


def test_a_run_reports_energies_by_the_tables_of_its_file(file, tmp_path, capsys) -> None:
    arguments = ["run", str(file), "--out", str(tmp_path / "out"), "--set", "cost.node=7"]
    assert main(arguments) == 0
    assert "Energy of a batch: " in capsys.readouterr().out
    report = json.loads((tmp_path / "out" / "report.json").read_text())
    cost = report["cost"]
    same = found(capsys, "cost", file, "--node", "7")
    assert cost["node_nm"] == 7
    assert cost["total"]["energy_pj"] == pytest.approx(same["total"]["energy_pj"])
    assert report["stages"][-1]["energy"] == pytest.approx(cost["total"]["relative"])
