"""What `fit` of an experiment file reaches: every argument of `dv.fit`, and its curve."""

from __future__ import annotations

import inspect
import re
from pathlib import Path

import pytest

import dovetail as dv
from dovetail.errors import DovetailError
from dovetail.experiment import RunResult, check, run
from dovetail.recipe.sections.fit import FitSpec
from experiment_files import DIGITS

FILE = (
    DIGITS
    + """\
threads: 1
fit:
  epochs: 2
  lr: 1e-3
  optimizer: adamw(weight_decay=0.01)
  schedule: cosine(warmup=0.1)
  accumulate: 2
  clip_norm: 1.0
  evaluate: calibration
  distill: exact(temperature=2, alpha=0.5)
  checkpoint: CHECKPOINT
  checkpoint_every: 5
  logger: LOG
"""
)
#: What only Python can give: the model and its data, functions, and several recipes.
PYTHON = {"model", "loader", "goal", "alternate", "on_epoch", "progress"}


@pytest.fixture(scope="module")
def folder(tmp_path_factory: pytest.TempPathFactory) -> Path:
    path = tmp_path_factory.mktemp("retrain")
    text = FILE.replace("CHECKPOINT", str(path / "saved")).replace("LOG", str(path / "log.csv"))
    (path / "digits.yaml").write_text(text)
    return path


@pytest.fixture(scope="module")
def result(folder: Path) -> RunResult:
    return run(folder / "digits.yaml", out=folder / "out")


def test_the_keys_are_the_arguments_with_their_defaults() -> None:
    arguments = inspect.signature(dv.fit).parameters
    assert set(FitSpec.model_fields) == set(arguments) - PYTHON
    assert FitSpec().model_dump() == {
        name: argument.default for name, argument in arguments.items() if name not in PYTHON
    } | {"lr": 5e-4}


def test_it_evaluates_distils_saves_and_logs(folder: Path, result: RunResult) -> None:
    fit = result.fit
    assert fit is not None
    assert fit.steps == 2 * 9  # 17 batches in pairs, the last alone
    assert len(fit.metrics) == 3
    assert fit.metrics[fit.best or 0] == max(fit.metrics)
    assert fit.metrics[-1] > fit.metrics[0] + 0.2
    assert (folder / "saved" / "manifest.json").exists()
    assert len((folder / "log.csv").read_text().splitlines()) == 1 + 18 + 3


def test_the_report_draws_the_curve(folder: Path, result: RunResult) -> None:
    assert result.fit is not None
    page = (folder / "out" / "report.html").read_text()
    assert re.search(r'aria-label="mean loss from \S+ in epoch 1 .*; metric from', page)
    for epoch, value in enumerate(result.fit.metrics):
        assert f"<title>epoch {epoch}: {value:.4g}</title>" in page
    assert f"epoch {result.fit.best}, the best" in page


def test_a_check_trains_again_instead_of_reading_the_checkpoint(
    folder: Path, result: RunResult
) -> None:
    before = sorted((p.name, p.stat().st_mtime_ns) for p in (folder / "saved").iterdir())
    assert check(folder / "out") == []
    assert sorted((p.name, p.stat().st_mtime_ns) for p in (folder / "saved").iterdir()) == before


@pytest.mark.parametrize(
    ("override", "message"),
    [
        ("fit.optimizer=adamm", "fit.optimizer.*did you mean 'adam'"),
        ("fit.schedule=cosin", "fit.schedule.*did you mean 'cosine'"),
        ("fit.distill=exact(temp=3)", "fit.distill.*did you mean 'temperature'"),
        ("fit.precision=bf8", "fit.precision"),
        ("fit.evaluate=validation", "fit.evaluate.*no 'validation'"),
        ("fit.loss=no_such_module:f", "fit.loss.*no module 'no_such_module'"),
        ("fit={budget: 0.01}", "'budget' needs the key 'evaluate'"),
        ("fit={checkpoint_every: 5}", "'checkpoint_every' needs the key 'checkpoint'"),
        ("fit.warmup=3", "unknown key 'warmup'"),
    ],
)
def test_refused_before_anything_is_measured(folder: Path, override: str, message: str) -> None:
    with pytest.raises(DovetailError, match=message):
        run(folder / "digits.yaml", overrides=[override], write=False)
