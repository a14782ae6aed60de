"""The examples run as they stand."""

from __future__ import annotations

import runpy
import sys
from pathlib import Path

import pytest

from dovetail import zoo

EXAMPLES = Path(__file__).parents[2] / "examples"


def test_own_multiplier(capsys: pytest.CaptureFixture[str]) -> None:
    runpy.run_path(str(EXAMPLES / "own_multiplier.py"), run_name="__main__")
    printed = capsys.readouterr().out
    for words in ("coarse: MAE", "no_low_columns: MAE", "emulated", "retrained"):
        assert words in printed


def test_train_digits_writes_a_checkpoint_that_loads(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    from safetensors.torch import load_file

    quick = zoo.digits.train(seed=1, epochs=1, progress=False)
    monkeypatch.setattr(zoo, "train", lambda name, seed: quick)
    target = tmp_path / "made.safetensors"
    monkeypatch.setattr(sys, "argv", ["train_digits.py", "--seed", "1", "--out", str(target)])
    runpy.run_path(str(EXAMPLES / "train_digits.py"), run_name="__main__")
    assert "test accuracy" in capsys.readouterr().out
    zoo.build("digits-cnn").load_state_dict(load_file(target))
