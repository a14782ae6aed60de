"""The staged run: its numbers, their repeatability, and what it refuses before it measures."""

from __future__ import annotations

import json
from pathlib import Path

import pytest
import torch

from dovetail.analysis.report import read
from dovetail.errors import DovetailError
from dovetail.experiment import RunResult, check, run
from dovetail.experiment.check import differences
from experiment_files import DIGITS

FILE = (
    DIGITS
    + """\
fit: {epochs: 1, lr: 1e-3}
export: [{to: golden, vectors: 2, hexadecimal: false}]
require: {accuracy: ">=0.5", energy: "<=0.1"}
"""
)


@pytest.fixture(scope="module")
def folder(tmp_path_factory) -> Path:
    path: Path = tmp_path_factory.mktemp("run")
    (path / "digits.yaml").write_text(FILE)
    return path


@pytest.fixture(scope="module")
def result(folder) -> RunResult:
    return run(folder / "digits.yaml", out=folder / "out")


def test_the_stages_tell_the_story(result) -> None:
    fp32, exact, approximate, retrained = result.stages
    names = ["fp32", "int8, exact", "int8, approximate", "retrained"]
    assert [s.name for s in result.stages] == names
    assert fp32.accuracy.value > 0.97
    assert fp32.agreement == 1.0
    assert exact.accuracy.low > fp32.accuracy.low - 0.02
    assert exact.energy == 1.0
    assert approximate.accuracy.high < fp32.accuracy.low - 0.2
    assert retrained.accuracy.low > approximate.accuracy.high
    assert approximate.energy == retrained.energy
    assert 0.1 < retrained.energy < 0.5


def test_the_last_stage_is_exported_into_the_report_s_folder(result, folder) -> None:
    (exported,) = result.exports
    assert exported.is_equal
    assert exported.path == folder / "out" / "golden"
    assert (exported.path / "network.npz").is_file()
    told = json.loads((folder / "out" / "report.json").read_text(encoding="utf-8"))
    assert told["exports"][0]["vectors"] == 2


def test_every_addressed_layer_has_a_row(result) -> None:
    assert [row.key for row in result.layers] == [f"conv{i}" for i in range(1, 6)] + ["head"]
    assert result.layers["head"].changed == 0.0
    assert result.layers["conv1"].changed > 0.3
    assert result.layers["conv1"].rule == "digits.yaml:5, 6"


def test_conditions_are_judged_on_the_last_stage(result) -> None:
    assert len(result.met) == 1
    assert result.met[0].startswith("accuracy 0.9")
    assert result.missed[0].startswith("energy 0.19")


def test_the_report_is_written_and_its_recipe_gives_the_same_numbers(result, folder) -> None:
    out = folder / "out"
    assert {p.name for p in out.iterdir()} == {
        "report.html",
        "report.json",
        "recipe.yaml",
        "golden",
    }
    report = json.loads((out / "report.json").read_text())
    assert report["stages"] == result.to_dict()["stages"]
    before = (out / "report.json").read_bytes()
    assert check(out) == []
    assert (out / "report.json").read_bytes() == before


def test_a_changed_number_is_found(folder, result, tmp_path) -> None:
    report = json.loads((folder / "out" / "report.json").read_text())
    report["stages"][3]["accuracy"]["value"] = 0.25
    (tmp_path / "report.json").write_text(json.dumps(report))
    (tmp_path / "recipe.yaml").write_text((folder / "out" / "recipe.yaml").read_text())
    (found,) = check(tmp_path)
    assert found.startswith("stages.3.accuracy.value: was 0.25, is 0.9")


def test_a_folder_without_a_report_cannot_be_checked(tmp_path) -> None:
    with pytest.raises(DovetailError, match=r"holds no report\.json"):
        check(tmp_path)
    (tmp_path / "report.json").write_text("[]")
    with pytest.raises(DovetailError, match="is no report of a run"):
        check(tmp_path)


def test_differences_see_what_is_missing() -> None:
    assert list(differences({"a": 1}, {"b": [1]})) == ["a: was 1, is None", "b: was None, is [1]"]
    assert list(differences([1], [1, 2])) == [": was [1], is [1, 2]"]


def test_the_global_generator_is_left_alone(folder) -> None:
    before = torch.random.get_rng_state()
    run(folder / "digits.yaml", overrides=["fit=null"], write=False)
    assert torch.equal(torch.random.get_rng_state(), before)


MEASURE = ["require={}", "measure=[accuracy]"]


def test_without_a_multiplier_there_is_no_approximate_stage(folder) -> None:
    found = run(
        folder / "digits.yaml",
        overrides=["rules.1={match: conv*, weight: int4}", "fit=null", *MEASURE],
        write=False,
    )
    assert [s.name for s in found.stages] == ["fp32", "int4/int8"]
    assert found.stages[1].energy is None
    assert found.cost is None
    assert found.layers.total.output_db is None


def test_a_python_model_and_data_are_used(folder, monkeypatch) -> None:
    (folder / "mine.py").write_text(
        "import torch\n"
        "from dovetail import zoo\n"
        "def build():\n"
        "    return torch.nn.Sequential(torch.nn.Flatten(), torch.nn.Linear(64, 10))\n"
        "def loaders(seed, batch_size):\n"
        "    data = zoo.data.load('digits', seed=seed, batch_size=batch_size)\n"
        "    return {'train': data.train, 'test': data.test}\n"
        "def nothing(seed, batch_size):\n"
        "    return {}\n"
    )
    monkeypatch.chdir(folder)
    mine = ["model={python: mine:build}", "data={python: mine:loaders}", "rules.1.match='1'"]
    found = run("digits.yaml", overrides=[*mine, "fit=null"], write=False)
    assert [row.key for row in found.layers] == ["1"]
    assert found.model == "mine:build"
    again = run("digits.yaml", overrides=[*mine, "fit=null"], write=False)
    assert again.to_dict() == found.to_dict()

    def refused(*overrides: str, from_scratch: bool = False) -> str:
        with pytest.raises(DovetailError) as caught:
            run(
                "digits.yaml",
                overrides=[*mine, *overrides],
                write=False,
                from_scratch=from_scratch,
            )
        return str(caught.value)

    assert "no module 'mime'" in refused("model.python=mime:build")
    assert "'mine' has no function 'biuld'" in refused("model.python=mine:biuld")
    assert "returned a dict, not an nn.Module" in refused("model.python=builtins:dict")
    said = "mine:build is called as build(seed=0, batch_size=64), and build() cannot be"
    assert said in refused("data.python=mine:build")
    assert "the data has no 'train'" in refused("data.python=mine:nothing")
    assert "only built-in models can be trained" in refused(from_scratch=True)


@pytest.mark.parametrize(
    ("override", "message"),
    [
        ("model.builtin=digits-cm", "unknown model 'digits-cm'; did you mean 'digits-cnn'?"),
        ("data.builtin=digit", "unknown data set 'digit'; did you mean 'digits'?"),
        ("rules.1.match=conx1", "digits.yaml:6: 'conx1' matches no operation; did you mean"),
        ("rules.0.input=uint8", "conv1 (digits.yaml:5, digits.yaml:6): input=uint8 has codes"),
        ("rules.0.weight=exact", "multiplies integer codes"),
        ("calibrate.observer=minmx", "--set calibrate.observer=minmx: unknown observer 'minmx'"),
    ],
)
def test_what_cannot_be_is_refused_before_any_measuring(folder, override, message) -> None:
    with pytest.raises(DovetailError) as caught:
        run(folder / "digits.yaml", overrides=[override], out=folder / "never")
    assert message in str(caught.value)
    assert not (folder / "never").exists()


@pytest.mark.parametrize("key", ["model", "data"])
def test_a_recipe_file_is_no_experiment(folder, key) -> None:
    with pytest.raises(DovetailError, match=f"the key '{key}' is missing; a run needs it"):
        run(folder / "digits.yaml", overrides=[f"{key}=null"])


def test_an_attribution_is_measured_where_it_is_asked_for(folder) -> None:
    rule = "rules=[{match: head, input: int8, weight: int4}]"
    measure = "measure=[accuracy, attribution]"
    drop = ["fit=null", "require={}", "data.batch_size=400"]
    found = run(folder / "digits.yaml", overrides=[rule, measure, *drop], out=folder / "attributed")
    assert found.attribution is not None
    assert [row.source for row in found.attribution] == ["input", "weight"]
    assert found.attribution.emulated_metric == found.stages[-1].accuracy.value
    report = json.loads((folder / "attributed/report.json").read_text())
    assert report["attribution"] == found.attribution.to_dict()
    assert read(folder / "attributed").attribution == report["attribution"]
    assert 'id="attribution"' in (folder / "attributed/report.html").read_text()
    assert check(folder / "attributed") == []
