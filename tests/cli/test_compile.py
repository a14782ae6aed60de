"""`dovetail compile`: the files of `--show`, and the table."""

from __future__ import annotations

import json

import pytest

from dovetail.cli.main import main

pytest.importorskip("dace")


def test_an_unknown_level_is_refused(tmp_path, capsys):
    path = tmp_path / "x.yaml"
    path.write_text("dovetail: 1\nmodel: {builtin: digits-cnn}\n")
    assert main(["compile", str(path), "--level", "wire"]) == 2
    assert "unknown level 'wire'" in capsys.readouterr().err


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
