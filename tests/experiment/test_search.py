"""A search from an experiment file: what it writes runs again to the same numbers."""

from __future__ import annotations

import csv
import re
from pathlib import Path

import pytest

import dovetail as dv
from dovetail.experiment import run, search
from dovetail.recipe.schema import dump, loads

FILE = """\
dovetail: 1
seed: 3
threads: 1
model: {builtin: digits-cnn}
data: {builtin: digits}
rules:
  - {match: "*", input: int8, weight: int8, acc: int32}
calibrate: {batches: 2, observer: percentile(99.9)}
search:
  over: {"head.acc": [int32, "int18(saturate)"]}
  each:
    "conv[12].mul": [exact, mul8s_1L2N]
    conv5: [{input: int8, weight: int8}, {input: int5, weight: int6}]
  objectives: {accuracy: max, energy_pj: min}
  constraints: {sqnr: ">=3"}
  trials: 6
"""


OBJECTIVES = ("accuracy", "energy_pj")


@pytest.fixture
def file(tmp_path: Path) -> Path:
    path = tmp_path / "study.yaml"
    path.write_text(FILE)
    return path


def test_recipes_of_the_front_run_to_the_same_numbers(file: Path, tmp_path: Path) -> None:
    front = search(file, out=tmp_path / "out")
    assert len(front.trials) == 6
    assert len(front) > 1
    with (tmp_path / "out" / "pareto.csv").open(newline="") as table:
        rows = {int(row["trial"]): row for row in csv.DictReader(table)}
    for trial in {front.best(name).number: front.best(name) for name in OBJECTIVES}.values():
        path = tmp_path / "out" / "recipes" / f"{trial.number}.yaml"
        result = run(path, write=False)
        last = result.stages[-1]
        assert result.cost is not None
        again = {
            "accuracy": last.accuracy.value,
            "sqnr": last.sqnr_db,
            "energy_pj": result.cost.energy_pj,
        }
        assert again == trial.values
        assert {name: float(rows[trial.number][name]) for name in again} == again


def test_recovery_and_retraining_belong_to_every_trial(file: Path, tmp_path: Path) -> None:
    file.write_text(
        FILE.replace(
            "calibrate:", "recover: [equalise, correct_bias]\nfit: {epochs: 1}\ncalibrate:"
        )
    )
    changes = ["search.trials=1"]
    front = search(file, overrides=changes, out=tmp_path / "out")
    for trial in front:
        path = tmp_path / "out" / "recipes" / f"{trial.number}.yaml"
        result = run(path, write=False)
        assert result.stages[-1].name == "retrained"
        assert result.stages[-1].accuracy.value == trial.values["accuracy"]
        assert result.stages[-1].sqnr_db == trial.values["sqnr"]


def test_a_recipe_shows_every_figure_of_the_search_with_the_threads_of_its_trial(
    file: Path, tmp_path: Path
) -> None:
    changes = ["search.trials=1", "search.objectives={perplexity: min, bops: min}"]
    front = search(file, overrides=[*changes, "measure=[accuracy]"], out=tmp_path / "out")
    assert front.points[0].threads == 1
    search(file, overrides=[*changes, "measure=[accuracy]", "threads=2"], out=tmp_path / "out")
    recipe = loads((tmp_path / "out" / "recipes" / "0.yaml").read_text(), "0.yaml").spec
    assert recipe.threads == 1
    assert list(recipe.measure) == ["accuracy", "perplexity", "energy", "sqnr"]
    again = run(tmp_path / "out" / "recipes" / "0.yaml", write=False).stages[-1]
    assert again.perplexity == front.points[0].values["perplexity"]


@pytest.mark.parametrize(
    ("change", "key"),
    [
        ("data.seed=1", "data: seed 0, not 1"),
        ("calibrate.batches=1", "calibrate: batches 2, not 1"),
        ("search.evaluate=calibration", "evaluate: test, not calibration"),
        ("fit={epochs: 1}", "fit: None, not"),
        ("recover=[equalise]", "recover: [], not"),
        ("cost.tables=[jouppi2021]", "cost: tables"),
    ],
)
def test_figures_of_another_experiment_are_not_mixed_in(
    change: str, key: str, file: Path, tmp_path: Path
) -> None:
    search(file, overrides=["search.trials=1"], out=tmp_path / "out")
    with pytest.raises(dv.DovetailError, match=re.escape(f"holds a study of another {key}")):
        search(file, overrides=["search.trials=1", change], out=tmp_path / "out")


def test_the_section_is_written_as_it_is_read() -> None:
    text = dump(loads(FILE, "study.yaml"))
    again = loads(text, "again.yaml")
    assert again.spec.search == loads(FILE, "study.yaml").spec.search
    assert dump(again) == text


@pytest.mark.parametrize(
    ("change", "message"),
    [
        (("conv[12].mul", "conv[12].mull"), r"study.yaml:12:22: unknown rule field 'mull'"),
        (("conv[12].mul", "konv*.mul"), r"study.yaml:12:18: 'konv\*'"),
        (("mul8s_1L2N", "mul8s_1L2X"), r"study.yaml:12:.*mul8s_1L2X"),
        (("int18(saturate)", "int18(wobble)"), r"study.yaml:10:.*wobble"),
        (("accuracy: max", "acuracy: max"), r"study.yaml:14:.*unknown figure 'acuracy'; did you"),
        (("accuracy: max", "accuracy: most"), r"study.yaml:14:.*expected max or min|unknown value"),
        (
            ("trials: 6", "trails: 6"),
            r"study.yaml:16:3: search: unknown key 'trails'",
        ),
        (("trials: 6", "trials: 0"), r"search.trials: must be at least 1"),
        (("trials: 6", "strategy: nsga3"), r"unknown value 'nsga3'; did you mean 'nsga2'"),
        (('sqnr: ">=3"', "sqnr: 3"), r"search.constraints.sqnr: expected a condition"),
        (("trials: 6", "evaluate: validation"), r"the data has no 'validation'"),
        (("trials: 6", "share: {mul: [conv3]}"), r"'conv3' matches no operation with its own mul"),
        (("trials: 6", "share: {mul: [[conv1, konv2]]}"), r"study.yaml:16:.*'konv2' matches no"),
        (("search:", "saerch:"), r"unknown key 'saerch'; did you mean 'search'"),
    ],
)
def test_mistakes_are_refused_with_their_place(
    change: tuple[str, str], message: str, file: Path, tmp_path: Path
) -> None:
    file.write_text(FILE.replace(*change))
    with pytest.raises(dv.DovetailError, match=message):
        search(file, out=tmp_path / "out")
    assert not (tmp_path / "out").exists()


def test_a_file_without_a_search_is_refused(file: Path) -> None:
    file.write_text(FILE[: FILE.index("search:")])
    with pytest.raises(dv.DovetailError, match=r"study.yaml: the key 'search' is missing"):
        search(file)


def test_a_search_without_a_space_is_refused(file: Path) -> None:
    file.write_text(FILE[: FILE.index("  over:")] + "  trials: 3\n")
    with pytest.raises(dv.DovetailError, match=r"it needs a space: over or each"):
        search(file)
