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


@pytest.mark.slow
def test_the_study_compares_its_fronts_with_the_uniform_designs(
    monkeypatch: pytest.MonkeyPatch, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    arguments = ["study.py", "--trials", "4", "--out", str(tmp_path)]
    monkeypatch.setattr(sys, "argv", arguments)
    with pytest.raises(SystemExit) as end:
        runpy.run_path(str(EXAMPLES / "study" / "study.py"), run_name="__main__")
    assert end.value.code == 0
    out = capsys.readouterr().out
    assert "row-transformer: " in out
    assert "int8 x exact" in out
    assert (tmp_path / "digits-cnn" / "pareto.svg").exists()
