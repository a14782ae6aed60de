"""The folder of a search: its table, its picture, its recipes, its journal."""

from __future__ import annotations

import csv
import json
from pathlib import Path
from xml.etree import ElementTree

import numpy as np
import pytest

import dovetail as dv
from dovetail.analysis import report
from dovetail.analysis.figures.drawing import COLOURS
from dovetail.search import Front, Space
from dovetail.search.files import svg
from search_models import BASE, SPACE, Small, batches, by_hand, found


@pytest.fixture(scope="module")
def front(tmp_path_factory: pytest.TempPathFactory) -> Front:
    return found(strategy="exhaustive", folder=tmp_path_factory.mktemp("study"))


def test_the_table_holds_the_front_to_the_last_bit(front: Front) -> None:
    assert front.folder is not None
    with (front.folder / "pareto.csv").open(newline="") as file:
        rows = list(csv.DictReader(file))
    assert [list(row) for row in rows[:1]] == [["trial", "sqnr", "energy", "a.mul", "b.mul"]]
    for row, trial in zip(rows, front, strict=True):
        assert int(row["trial"]) == trial.number
        assert float(row["sqnr"]) == trial.values["sqnr"]
        assert row["a.mul"] == trial.design["a.mul"]


def test_the_picture_shows_every_design_with_its_figures(front: Front) -> None:
    assert front.folder is not None
    text = (front.folder / "pareto.svg").read_text()
    assert text == svg(front)
    root = ElementTree.fromstring(text)
    fills = [c.get("fill") for c in root.iter("{http://www.w3.org/2000/svg}circle")]
    assert fills.count(COLOURS["blue"]) == len(front)
    assert len(fills) == len(front.trials)
    assert "href" not in text
    assert "<script" not in text


def test_the_report_shows_the_search(front: Front) -> None:
    assert front.folder is not None
    contents = report.read(front.folder)
    assert contents.search is not None
    assert [d.number for d in contents.search.designs if d.front] == sorted(t.number for t in front)
    assert "<h2>Designs</h2>" in report.page(contents)


def test_every_recipe_gives_the_same_figures(front: Front) -> None:
    assert front.folder is not None
    files = sorted((front.folder / "recipes").iterdir())
    assert {file.name for file in files} == {f"{trial.number}.yaml" for trial in front}
    for trial in front:
        recipe = dv.Recipe.load(front.folder / "recipes" / f"{trial.number}.yaml")
        assert by_hand(recipe) == trial.values["sqnr"]


def test_points_that_are_none_any_more_lose_their_recipes(tmp_path: Path) -> None:
    found(trials=1, folder=tmp_path)
    first = {file.name for file in (tmp_path / "recipes").iterdir()}
    front = found(trials=9, folder=tmp_path)
    assert {f.name for f in (tmp_path / "recipes").iterdir()} == {f"{t.number}.yaml" for t in front}
    assert first == {"0.yaml"}


def test_a_folder_of_another_search_is_refused(tmp_path: Path) -> None:
    found(trials=1, folder=tmp_path)
    for options, key in (
        ({"space": Space(each={"*.mul": ["exact", "mul8s_1KVM"]})}, "space"),
        ({"objectives": {"sqnr": "max"}}, "objectives"),
        ({"recipe": BASE + dv.Recipe(dv.rule("c", acc="int32"))}, "recipe"),
        ({"observer": "percentile(99)"}, "calibration"),
        ({"tables": ["jouppi2021"]}, "cost"),
        ({"seed": 1}, "seed"),
    ):
        with pytest.raises(dv.DovetailError, match=f"holds a study of another {key}"):
            found(folder=tmp_path, **options)


def test_a_folder_of_another_version_is_refused(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    found(trials=1, folder=tmp_path)
    monkeypatch.setattr(dv, "__version__", "99.0")
    with pytest.raises(dv.DovetailError, match=r"another version of dovetail: .*, not 99.0"):
        found(folder=tmp_path)


def test_of_two_spaces_what_differs_is_told(tmp_path: Path) -> None:
    found(trials=1, folder=tmp_path)
    space = Space(each={"a.mul": SPACE.each["[ab].mul"], "b.mul": ["exact", "mul8s_1KVM"]})
    with pytest.raises(dv.DovetailError) as refused:
        found(folder=tmp_path, space=space)
    assert "another space: b.mul ['exact', " in str(refused.value)
    assert "a.mul" not in str(refused.value)


def test_what_constraints_are_missed_by_is_told() -> None:
    none = found(strategy="exhaustive", constraints={"sqnr": ">1000", "energy": "<=0.99"})
    nearest = found(strategy="exhaustive").best("sqnr")
    assert none.shortfalls() == {
        "sqnr": f"0 of 9 designs have sqnr >1000; nearest is trial {nearest.number}, "
        f"{nearest.values['sqnr']:.6g}",
        "energy": "8 of 9 designs have energy <=0.99",
    }
    assert none.shortfalls()["sqnr"] in str(none)


def test_a_line_that_was_not_finished_is_taken_away(tmp_path: Path) -> None:
    before = found(trials=4, folder=tmp_path).to_dict()
    with (tmp_path / "study.journal").open("a") as file:
        file.write('{"op_code":4,"worker_id":"x')
    after = found(trials=4, folder=tmp_path).to_dict()
    assert after == before
    for line in (tmp_path / "study.journal").read_text().splitlines():
        json.loads(line)


def test_what_no_file_can_hold_is_refused_before_any_trial(tmp_path: Path) -> None:
    table = np.multiply.outer(np.arange(-128, 128), np.arange(-128, 128)) // 2 * 2
    mine = dv.multiplier(np.roll(table, 128, axis=(0, 1)), signed=True)
    space = {"*.mul": ["exact", mine]}
    with pytest.raises(dv.DovetailError, match="no file can hold"):
        found(space=space, folder=tmp_path / "study", objectives={"sqnr": "max"})
    assert not (tmp_path / "study").exists()
    assert len(found(space=space, objectives={"sqnr": "max"}, trials=2).trials) == 2


def test_one_objective_and_no_front_can_be_drawn() -> None:
    alone = found(objectives={"sqnr": "max"}, trials=3)
    assert len(alone) == 1
    ElementTree.fromstring(svg(alone))
    none = found(trials=2, constraints={"sqnr": ">1000"})
    assert len(none) == 0
    assert svg(none).count('r="3.5" fill="none"') == len(none.trials)  # hollow
    with pytest.raises(dv.DovetailError, match="no design met every constraint"):
        none.best("energy")


def test_a_front_prints_what_differs() -> None:
    front = found(strategy="exhaustive")
    assert "choices that differ" in str(front)
    assert f"{front.points[0].number}" in str(front)
    with pytest.raises(dv.DovetailError, match="'accuracy' is no objective of this search"):
        front.best("accuracy")
    with pytest.raises(KeyError):
        front[99]


def test_the_model_class_is_told_apart(tmp_path: Path) -> None:
    found(trials=1, folder=tmp_path)
    other = Small()
    other.a.weight.data *= 2
    with pytest.raises(dv.DovetailError, match="another model"):
        dv.search(
            other,
            SPACE,
            lambda model: 1.0,
            example=batches()[0][0],
            recipe=BASE,
            objectives={"sqnr": "max", "energy": "min"},
            folder=tmp_path,
        )
