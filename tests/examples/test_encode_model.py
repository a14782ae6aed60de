"""The example of encoded weights runs as it stands."""

from __future__ import annotations

import runpy
import sys
from pathlib import Path

import pytest

from dovetail.storage import load_encoded

EXAMPLE = Path(__file__).parents[2] / "examples" / "encode_model.py"


def test_encode_model(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    monkeypatch.setattr(sys, "argv", ["encode_model.py", "--keep", str(tmp_path)])
    runpy.run_path(str(EXAMPLE), run_name="__main__")
    printed = capsys.readouterr().out
    for words in ("equal to dv.cast: True", "nf4(block=64)", "x smaller", "fp8_e4m3fn"):
        assert words in printed
    assert "conv1.weight" in load_encoded(tmp_path / "recipe.safetensors")
