"""`dovetail attribute`."""

from __future__ import annotations

import json
from pathlib import Path

import pytest

import dovetail as dv
from dovetail.analysis.attribution import checkpoint
from dovetail.analysis.attribution.exact import Exact
from dovetail.analysis.report import read
from dovetail.cli.main import main

FILE = """\
dovetail: 1
model: {builtin: digits-cnn}
data: {builtin: digits, batch_size: 60}
rules:
  - {match: conv2, input: int8, weight: int8, mul: mul8s_1L2N}
  - {match: head, input: int8}
  - {match: "*:relu_1", output: fp8_e4m3fn}
"""


@pytest.fixture
def file(tmp_path, monkeypatch) -> Path:
    monkeypatch.chdir(tmp_path)
    path: Path = tmp_path / "digits.yaml"
    path.write_text(FILE)
    return path


def found(capsys, *arguments) -> dict:
    assert main(["attribute", *map(str, arguments), "--json"]) == 0
    out, err = capsys.readouterr()
    assert err == ""
    return json.loads(out)


def test_what_is_written_is_what_a_report_draws(file, tmp_path, capsys) -> None:
    shown = found(capsys, file, "--batches", "1", "--resamples", "50")
    assert json.loads((tmp_path / "out/digits/attribution.json").read_text()) == shown
    assert read(tmp_path / "out/digits").attribution == shown
    assert (shown["mode"], shown["metric"], shown["samples"]) == ("exact", "accuracy", 60)
    assert {row["op"] for row in shown["rows"]} == set(shown["by_op"]) == set(shown["histograms"])
    worst = min(shown["rows"], key=lambda row: row["delta_metric"])
    assert (worst["op"], worst["source"]) == ("conv2", "mul")


def test_the_table(file, tmp_path, capsys) -> None:
    arguments = ["--batches", "1", "--enabled-only", "--sort", "harm", "--out", "here"]
    assert main(["attribute", str(file), *arguments]) == 0
    out, err = capsys.readouterr()
    assert err == ""
    assert out.splitlines()[2].split()[:2] == ["conv2", "mul"]
    assert "here/attribution.json: 'dovetail report here' draws it" in out
    assert (tmp_path / "here/attribution.json").is_file()


def test_the_first_order(file, capsys) -> None:
    few = ["--mode", "first_order", "--batches", "2"]
    shown = found(capsys, file, *few, "--set", "rules.2.output=fp4_e2m1fn")
    assert (shown["metric"], shown["samples"]) == ("loss", 120)
    assert shown["rows"][0]["disabled_delta_metric"] is None
    assert {row["value"] for row in shown["rows"] if row["source"] == "output"} == {
        str(dv.format("fp4_e2m1fn"))
    }


def test_a_part_of_it(file, capsys) -> None:
    part = ["--select", "conv2", "--select", "head", "--source", "input", "--batches", "1"]
    shown = found(capsys, file, *part, "--resamples", "0")
    assert [(row["op"], row["source"]) for row in shown["rows"]] == [
        ("conv2", "input"),
        ("head", "input"),
    ]


@pytest.mark.parametrize(
    ("arguments", "message"),
    [
        (["--select", "conv9"], "matches no emulated operation; did you mean 'conv2'"),
        (["--metric", "acuracy"], "unknown metric 'acuracy'; did you mean 'accuracy'"),
        (["--mode", "first"], "unknown mode of attribution 'first'; did you mean 'first_order'"),
        (["--sort", "delta"], "unknown field to sort by 'delta'; did you mean 'delta_"),
        (["--mode", "first_order", "--metric", "loss"], "the loss and takes no metric"),
    ],
)
def test_refusals(arguments, message, file, capsys) -> None:
    assert main(["attribute", str(file), "--batches", "1", *arguments]) == 2
    out, err = capsys.readouterr()
    assert out == ""
    assert message in err


def test_what_is_interrupted_goes_on(file, tmp_path, monkeypatch, capsys) -> None:
    command = ["attribute", str(file), "--select", "head", "--batches", "3", "--json"]
    assert main(command) == 0
    whole = json.loads(capsys.readouterr().out)
    add, measured = Exact.add, []

    def until_the_third(self, *given):
        if len(measured) == 2:
            raise KeyboardInterrupt
        measured.append(1)
        add(self, *given)

    monkeypatch.setattr(checkpoint, "_SHARE", 0)
    monkeypatch.setattr(Exact, "add", until_the_third)
    assert main(command) == 130
    said = capsys.readouterr().err
    assert "what is measured so far is kept: the same command goes on from there" in said
    (kept,) = (tmp_path / "out/digits").glob(".unfinished-*")
    measured[:] = [1]  # one more batch is left
    assert main(command) == 0
    assert json.loads(capsys.readouterr().out) == whole
    assert not kept.exists()
