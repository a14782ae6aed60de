"""Files are refused before anything is computed where there is no folder for them."""

from __future__ import annotations

import pytest
from torch import nn

import dovetail as dv


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
