"""The `export` of an experiment file, and `dovetail export`."""

from __future__ import annotations

import json
from pathlib import Path

import onnx
import pytest
import torch

import dovetail as dv
from dovetail.cli.main import main
from dovetail.experiment import export
from dovetail.interchange import exporters_known, registry
from dovetail.recipe.schema import dump, loads
from experiment_files import DIGITS

BOTH = DIGITS + "export: [{to: onnx, batch: 3}, {to: golden, vectors: 70}]\n"


@pytest.fixture
def file(tmp_path: Path) -> Path:
    path = tmp_path / "digits.yaml"
    path.write_text(BOTH, encoding="utf-8")
    return path


def test_every_form_that_the_file_names_is_written(file: Path, tmp_path: Path) -> None:
    written, vectors = export(file, out=tmp_path / "out")
    assert written.path == tmp_path / "out" / "digits.onnx"
    assert written.is_equal
    shape = onnx.load(written.path).graph.input[0].type.tensor_type.shape
    assert [d.dim_value for d in shape.dim] == [3, 1, 8, 8]
    assert vectors.is_equal
    assert vectors.facts["vectors"] == 70  # of two batches of the test data
    again = dv.load_onnx(written.path)
    assert torch.isfinite(again(torch.zeros(3, 1, 8, 8))).all()


def test_the_command_line_tells_what_was_compared(file: Path, tmp_path: Path, capsys) -> None:
    words = ["export", str(file), "--to", "golden", "--out", str(tmp_path / "v")]
    assert main([*words, "--set", "export.1.vectors=2"]) == 0
    out = capsys.readouterr().out
    assert "golden: compared with the emulation" in out
    assert "wrote" in out
    assert "every bit the emulation's" in out.replace("\n", " ")
    assert main([*words, "--set", "export.1.vectors=2", "--json"]) == 0
    (told,) = json.loads(capsys.readouterr().out)
    assert told["to"] == "golden"
    assert told["vectors"] == 2
    assert "golden/manifest.json" in told["files"]


@pytest.mark.parametrize(
    ("options", "told"),
    [
        (["--to", "onxx"], "--to: unknown exporter 'onxx'; did you mean 'onnx'?"),
        (["--set", "export.0.to=gold"], "digits.yaml:7:10: unknown exporter 'gold'; did you mean"),
        (["--set", "export.0.vectors=3"], "unknown option of the exporter 'onnx': 'vectors'"),
        (["--set", "export.0.vector=3"], "unknown key 'vector'; did you mean 'vectors'?"),
        (["--set", "export=[]"], "the key 'export' is missing; give --to onnx, or a list such as"),
        (["--to", "golden", "--set", "export.1.vectors=9999"], "and the test data has"),
        (["--set", "rules.0.acc=int16(saturate)"], "conv1 (conv): acc=int16(saturate) saturates"),
    ],
)
def test_refusals(file: Path, tmp_path: Path, options: list[str], told: str, capsys) -> None:
    assert main(["export", str(file), "--out", str(tmp_path / "out"), *options]) == 2
    assert told in capsys.readouterr().err
    assert not list(tmp_path.glob("out/*"))


def test_options_of_a_plugin_s_exporter_are_passed_on(tmp_path: Path, monkeypatch) -> None:
    monkeypatch.setattr(registry, "_exporters", dict(exporters_known()))

    @dv.register_exporter("shapes", suffix=".txt")
    def shapes(model, path, example, *, verify, prefix: str = "") -> dv.Exported:
        path.write_text(prefix + str(tuple(example[0].shape)), encoding="utf-8")
        return dv.Exported("shapes", path, (path,))

    place = tmp_path / "digits.yaml"
    block = "export: [{to: shapes, batch: 2, options: {prefix: 'x '}}]"
    place.write_text(DIGITS + block, encoding="utf-8")
    (done,) = export(place, out=tmp_path / "out")
    assert done.path.read_text(encoding="utf-8") == "x (2, 1, 8, 8)"
    with pytest.raises(dv.DovetailError, match=r"digits.yaml:7:10: unknown option .* 'prefx'; did"):
        export(place, overrides=["export.0.options={prefx: y}"])


def test_the_block_keeps_its_words() -> None:
    read = loads(BOTH, "digits.yaml")
    assert loads(dump(read), "digits.yaml").spec.export == read.spec.export


def test_show_exporters(capsys) -> None:
    assert main(["show", "exporters"]) == 0
    out = capsys.readouterr().out
    assert "An ONNX file of standard operators" in out
    assert "tolerance: 0.01" in out
    assert main(["show", "exporters", "--json"]) == 0
    assert [row["name"] for row in json.loads(capsys.readouterr().out)] == ["golden", "onnx"]
