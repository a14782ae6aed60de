"""`dovetail compile`: the files of `--show`, and the table."""

from __future__ import annotations

import json

import pytest
import torch

from dovetail.cli.main import main

pytest.importorskip("dace")


def test_an_unknown_level_is_refused(tmp_path, capsys):
    path = tmp_path / "x.yaml"
    path.write_text("dovetail: 1\nmodel: {builtin: digits-cnn}\n")
    assert main(["compile", str(path), "--level", "wire"]) == 2
    assert "unknown level 'wire'" in capsys.readouterr().err


def test_an_unknown_target_is_refused(tmp_path, capsys):
    path = tmp_path / "x.yaml"
    path.write_text("dovetail: 1\nmodel: {builtin: digits-cnn}\n")
    assert main(["compile", str(path), "--target", "gpu"]) == 2
    assert "unknown target 'gpu'" in capsys.readouterr().err


@pytest.mark.slow
@pytest.mark.skipif(torch.cuda.is_available(), reason="there is a GPU")
def test_cuda_is_written_where_there_is_no_gpu(tmp_path, capsys):
    path, out = tmp_path / "x.yaml", tmp_path / "out"
    path.write_text(
        "dovetail: 1\nmodel: {builtin: digits-cnn}\ndata: {builtin: digits}\n"
        "rules: [{match: '*', input: int8, weight: int8}]\n"
    )
    options = ["--target", "cuda", "--show", "--out", str(out), "--json"]
    assert main(["compile", str(path), *options]) == 0
    files = [name.rsplit("/")[-1] for name in json.loads(capsys.readouterr().out)["files"]]
    assert "forward.cu" in files
    assert "__global__" in (out / "forward.cu").read_text()
    assert "__global__" not in (out / "forward.cpp").read_text()


@pytest.mark.slow
def test_show_writes_the_graph_its_view_the_code_and_the_nodes(tmp_path, capsys, monkeypatch):
    monkeypatch.setenv("DOVETAIL_CACHE", str(tmp_path / "cache"))
    path = tmp_path / "x.yaml"
    path.write_text(
        "dovetail: 1\nmodel: {builtin: digits-cnn}\ndata: {builtin: digits}\n"
        "rules: [{match: '*', input: int8, weight: int8}]\n"
    )
    out = tmp_path / "out"
    assert main(["compile", str(path), "--show", "--out", str(out), "--json"]) == 0
    rows = json.loads(capsys.readouterr().out)["rows"]
    assert {row["level"] for row in rows} == {"operator", "map", "scalar"}
    names = {p.name for p in out.iterdir()}
    assert names == {
        "forward.sdfg",
        "forward.html",
        "forward.cpp",
        "forward.groups.txt",
        "nodes.txt",
    }
    assert json.loads((out / "forward.sdfg").read_text())["type"] == "SDFG"
    page = (out / "forward.html").read_text()
    assert "dv_relu(" in page
    assert "http" not in page
