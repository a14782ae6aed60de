"""`dovetail search` from outside."""

from __future__ import annotations

import json
import os
import signal
import subprocess
import sys
import time
from pathlib import Path

import pytest

import dovetail as dv
from dovetail.cli.main import main
from experiment_files import DIGITS

FILE = (
    DIGITS
    + """\
threads: 1
search:
  each: {"conv[12].mul": [exact, mul8s_1KVM, mul8s_1L2N]}
  trials: 4
"""
)


@pytest.fixture
def file(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    monkeypatch.chdir(tmp_path)
    path = tmp_path / "study.yaml"
    path.write_text(FILE)
    return path


def test_it_prints_the_front_and_where_its_files_are(
    file: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    assert main(["search", str(file), "--strategy", "greedy"]) == 0
    out = capsys.readouterr().out
    assert "of 4 designs are on the front; 9 can be" in out
    assert "out/study: pareto.csv, pareto.svg, recipes/TRIAL.yaml, study.journal" in out
    assert Path("out/study/pareto.svg").exists()


def test_json_is_all_that_it_prints_and_trials_can_be_added(
    file: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    assert main(["search", str(file), "--trials", "2", "--json"]) == 0
    first = json.loads(capsys.readouterr().out)
    assert main(["search", str(file), "--json", "--set", "search.constraints={}"]) == 0
    found = json.loads(capsys.readouterr().out)
    assert len(first["trials"]) == 2
    assert len(found["trials"]) == 4
    assert found["trials"][0] == first["trials"][0]
    assert set(found["front"]) <= {trial["trial"] for trial in found["trials"]}


def test_a_search_without_a_design_that_is_good_enough_ends_with_one(
    file: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    bounds = 'search.constraints={accuracy: ">=0.9999", energy_pj: "<=1e9"}'
    assert main(["search", str(file), "--trials", "1", "--set", bounds]) == 1
    out = capsys.readouterr().out
    assert "No design of 1 meets every constraint" in out
    assert "0 of 1 designs have accuracy >=0.9999; nearest is trial 0, 0.9" in out
    assert "1 of 1 designs have energy_pj <=1e9" in out


def test_refusals_end_with_two(file: Path, capsys: pytest.CaptureFixture[str]) -> None:
    assert main(["search", str(file), "--strategy", "best"]) == 2
    assert "unknown value 'best'" in capsys.readouterr().err


@pytest.mark.slow
@pytest.mark.skipif(os.name != "posix", reason="signals")
def test_ctrl_c_leaves_what_can_be_gone_on_with(file: Path) -> None:
    path = os.pathsep.join([str(Path(dv.__file__).parents[1])])
    command = [sys.executable, "-m", "dovetail", "search", str(file), "--workers", "2"]
    many = [*command, "--strategy", "mcts", "--set", "search.trials=9"]
    environment = {**os.environ, "PYTHONPATH": path}
    running = subprocess.Popen(many, env=environment, stderr=subprocess.PIPE, text=True)
    journal = Path("out/study/study.journal")
    limit = time.monotonic() + 120
    while time.monotonic() < limit and not (journal.exists() and '"values"' in journal.read_text()):
        time.sleep(0.02)
    running.send_signal(signal.SIGINT)
    _, errors = running.communicate(timeout=60)
    assert running.returncode == 130
    assert "every finished trial is in the journal; the same command goes on" in errors
    before = journal.read_text().count('"values"')
    assert subprocess.run(many, env=environment, check=False).returncode == 0
    assert before < 9 <= journal.read_text().count('"values"')
    assert not list(Path("out/study/workers").iterdir())
