"""Files are refused before anything is computed where there is no folder for them."""

from __future__ import annotations

from pathlib import Path

import pytest
from torch import nn

import dovetail as dv
from dovetail._files import write as write_files


@pytest.mark.parametrize(
    "write",
    [
        lambda path: dv.Recipe(dv.rule("*", weight="int8")).save(path),
        lambda path: dv.save_encoded(nn.Linear(2, 2), path, "int8"),
        lambda path: dv.Model(nn.Linear(2, 2)).transform(dv.rule("*", weight="int8")).freeze(path),
    ],
    ids=["recipe", "weights", "model"],
)
def test_where_no_file_can_stand(write, tmp_path):
    with pytest.raises(dv.DovetailError, match=r"there is no folder '.*missing'"):
        write(tmp_path / "missing" / "file")
    with pytest.raises(dv.DovetailError, match="is a folder; name the file"):
        write(tmp_path)
    write(tmp_path / "file")
    assert [p.name for p in tmp_path.iterdir()] == ["file"]


def test_an_interruption_leaves_files_as_they_were_or_whole(tmp_path, monkeypatch):
    first, second = tmp_path / "first", tmp_path / "second"
    write_files({first: "old", second: "old"})
    write = Path.write_bytes

    def stop(path: Path, content: bytes) -> int:
        if "second" in path.name:
            write(path, content[:1])
            raise KeyboardInterrupt
        return write(path, content)

    monkeypatch.setattr(Path, "write_bytes", stop)
    with pytest.raises(KeyboardInterrupt):
        write_files({first: "new", second: b"new"})
    assert sorted(p.name for p in tmp_path.iterdir()) == ["first", "second"]
    assert (first.read_text(), second.read_text()) == ("old", "old")
    monkeypatch.undo()
    write_files({first: "\u00b5", second: b"new"})
    assert (first.read_text(encoding="utf-8"), second.read_bytes()) == ("\u00b5", b"new")
