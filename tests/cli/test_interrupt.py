"""Ctrl-C ends in one line, with exit code 130."""

from __future__ import annotations

import pytest

from dovetail.cli.interrupt import resumable
from dovetail.cli.main import main

FILE = (
    "dovetail: 1\nmodel: {builtin: digits-cnn}\ndata: {builtin: digits}\nrules: [{input: int8}]\n"
)


@pytest.mark.parametrize(
    ("said", "line"),
    [
        (None, "error: interrupted; nothing was written; the same command starts again\n"),
        ("go on with X", "error: interrupted; go on with X\n"),
    ],
)
def test_one_line_says_how_to_go_on(tmp_path, monkeypatch, capsys, said, line) -> None:
    def stop(*_args: object, **_options: object) -> None:
        if said is None:
            raise KeyboardInterrupt
        with resumable("outer"), resumable(said):
            raise KeyboardInterrupt

    monkeypatch.setattr("dovetail.recipe.schema.load", stop)
    path = tmp_path / "digits.yaml"
    path.write_text(FILE)
    assert main(["plan", str(path)]) == 130
    assert capsys.readouterr() == ("", line)
