"""Exporters by name, and what `dv.export` refuses before one is called."""

from __future__ import annotations

from pathlib import Path

import pytest
from torch import nn

import dovetail as dv
from dovetail.interchange import exporters_known, registry
from helpers import randn


@pytest.fixture
def names(monkeypatch) -> None:
    monkeypatch.setattr(registry, "_exporters", dict(exporters_known()))

    @dv.register_exporter("names", suffix=".txt")
    def names(model, path, example, *, verify, upper: bool = False) -> dv.Exported:
        """The names
        of the parameters.

        More.
        """
        text = "\n".join(name for name, _ in model.named_parameters())
        path.write_text(text.upper() if upper else text, encoding="utf-8")
        return dv.Exported("names", path, (path,))


def test_a_registered_exporter_is_found_by_its_suffix_and_its_name(names, tmp_path: Path) -> None:
    for path, to in (("a.txt", None), ("b.txt", "names")):
        dv.export(nn.Linear(2, 2), tmp_path / path, randn(1, 2), to=to, upper=True)
        assert (tmp_path / path).read_text(encoding="utf-8") == "WEIGHT\nBIAS"
    assert exporters_known()["names"].summary == "The names of the parameters."
    assert exporters_known()["names"].options == {"upper": False}


@pytest.mark.parametrize(
    ("path", "options", "told"),
    [
        ("m.onnx", {"to": "onxx"}, r"unknown exporter 'onxx'; did you mean 'onnx'\?"),
        ("m.onn", {}, r"does not say what to export.*'golden', 'onnx'"),
        ("m.onnx", {"vectors": 3}, "unknown option of the exporter 'onnx': 'vectors'. Known: tol"),
        ("m.txt", {"to": "onnx"}, "writes files that end in .onnx"),
        ("no/m.onnx", {}, "there is no folder"),
    ],
)
def test_refusals(tmp_path: Path, path: str, options, told: str) -> None:
    with pytest.raises(dv.DovetailError, match=told):
        dv.export(nn.Linear(2, 2), tmp_path / path, randn(1, 2), **options)
    assert list(tmp_path.iterdir()) == []


def test_a_folder_is_no_file(tmp_path: Path) -> None:
    (tmp_path / "m.onnx").mkdir()
    with pytest.raises(dv.DovetailError, match="is a folder; name the file"):
        dv.export(nn.Linear(2, 2), tmp_path / "m.onnx", randn(1, 2))


def test_a_model_is_a_module(tmp_path: Path) -> None:
    with pytest.raises(dv.DovetailError, match=r"a model is an nn.Module, not function"):
        dv.export(lambda x: x, tmp_path / "m.onnx", randn(1, 2))  # type: ignore[arg-type]


def test_names_are_taken_once(names) -> None:
    with pytest.raises(dv.DovetailError, match="an exporter 'names' exists already"):
        dv.register_exporter("names")(lambda *_: None)  # type: ignore[arg-type, return-value]
    with pytest.raises(dv.DovetailError, match="cannot name an exporter"):
        dv.register_exporter("a b")(lambda *_: None)  # type: ignore[arg-type, return-value]
