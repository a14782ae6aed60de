"""A run with post-training recipes: a stage of its own, in the report and repeatable."""

from __future__ import annotations

import json

import pytest
import torch

from dovetail.errors import DovetailError
from dovetail.experiment import run
from dovetail.recipe.schema import loads

FILE = """\
dovetail: 1
model: {builtin: digits-cnn}
data: {builtin: digits}
rules:
  - {match: "*", input: int8, weight: int8, mul: "broken_array(bits=8, drop_columns=8)"}
recover: [equalise, {smoothquant: {fuse: never, select: head}}, correct_bias]
"""


@pytest.fixture(scope="module")
def runs(tmp_path_factory):
    folder = tmp_path_factory.mktemp("recover")
    (folder / "a.yaml").write_text(FILE)
    first = run(folder / "a.yaml", out=folder / "out")
    return first, run(folder / "out" / "recipe.yaml", out=folder / "again", write=False), folder


def test_the_recovered_network_is_a_stage(runs):
    result, _, _ = runs
    assert [s.name for s in result.stages][1:] == ["int8, exact", "int8, approximate", "recovered"]
    approximate, recovered = result.stages[2:]
    assert recovered.accuracy.low > approximate.accuracy.high
    assert recovered.sqnr_db > approximate.sqnr_db + 3
    assert [done.name for done in result.recovered] == ["equalise", "smoothquant", "correct_bias"]
    assert all(done.status == "kept" for done in result.recovered)


def test_it_is_reported_and_repeats(runs):
    result, again, folder = runs
    report = json.loads((folder / "out" / "report.json").read_text())
    assert [done["recipe"] for done in report["recovered"]] == [d.name for d in result.recovered]
    assert report["recovered"] == again.to_dict()["recovered"]
    assert again.to_dict()["stages"] == result.to_dict()["stages"]
    page = (folder / "out" / "report.html").read_text()
    assert "Recovered by correct_bias: 6 operations changed." in page


def test_a_recipe_that_cannot_be_names_its_line(tmp_path):
    (tmp_path / "a.yaml").write_text(FILE.replace("equalise,", "{rotate: {select: conv3}},"))
    with pytest.raises(DovetailError, match=r"a\.yaml:6:.*rotate: conv3 sums over one channel"):
        run(tmp_path / "a.yaml", write=False)


NORMED = """\
dovetail: 1
model: {python: "normed_model:build"}
data: {builtin: digits}
rules: [{match: "*", input: int8, weight: int8}]
recover: [fold_batch_norm]
"""
MODULE = """\
from torch import nn
def build():
    return nn.Sequential(nn.Conv2d(1, 4, 3), nn.BatchNorm2d(4), nn.Flatten(), nn.Linear(144, 10))
"""


def test_batch_norms_are_folded_before_the_rules_apply(tmp_path, monkeypatch):
    (tmp_path / "normed_model.py").write_text(MODULE)
    (tmp_path / "a.yaml").write_text(NORMED)
    monkeypatch.chdir(tmp_path)
    assert loads(NORMED).spec.recover[0].name == "fold_batch_norm"
    with torch.random.fork_rng():
        result = run(tmp_path / "a.yaml", write=False)
    assert [s.name for s in result.stages] == ["fp32", "int8"]
    assert not any("batch_norm" in key for key in result.plan.left_exact)
