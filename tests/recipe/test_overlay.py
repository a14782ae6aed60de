"""Files laid over one another: what counts, and where messages say that it stands."""

from __future__ import annotations

import pytest

from dovetail.errors import DovetailError
from dovetail.recipe.overlay import overlaid
from dovetail.recipe.schema import load
from dovetail.recipe.yaml_source import parse

BASE = """\
dovetail: 1
seed: 3
fit: {epochs: 2, lr: 0.1}
rules:
  - {match: "*", input: int8}
  - {match: "conv*", weight: int8}
measure: [accuracy, sqnr]
"""


def merged(*tops: str):
    named = [parse(text, f"top{i}.yaml") for i, text in enumerate(tops)]
    return overlaid([parse(BASE, "base.yaml"), *named])


def test_later_files_win_key_by_key() -> None:
    data = merged("seed: 4\nfit: {epochs: 5}", "fit: {epochs: 6}\nmeasure: [accuracy]").data
    assert (data["seed"], data["fit"], data["measure"]) == (
        4,
        {"epochs": 6, "lr": 0.1},
        ["accuracy"],
    )
    assert len(data["rules"]) == 2


def test_rules_are_appended_unless_they_are_said_to_replace() -> None:
    more = "rules: [{match: fc, mul: exact}]"
    assert [r.get("match") for r in merged(more, more).data["rules"]] == ["*", "conv*", "fc", "fc"]
    replaced = merged(more, "rules: {replace: [{match: x, input: int4}]}", more)
    assert [r["match"] for r in replaced.data["rules"]] == ["x", "fc"]
    assert replaced.line(("rules", 0)) == "top1.yaml:1"
    assert replaced.line(("rules", 1)) == "top2.yaml:1"


def test_null_takes_a_key_out() -> None:
    document = merged("fit: null\nseed: null")
    assert "fit" not in document.data
    assert "seed" not in document.data
    assert document.where(("fit", "epochs")) == "base.yaml:1:1"


@pytest.mark.parametrize(
    ("top", "place"),
    [
        ("fit: {epochs: none}", "top.yaml:1:15: fit.epochs: expected a whole number"),
        ("\nrules: [{inputs: int8}]", "top.yaml:2:10: rules.2: unknown key 'inputs'"),
        ("rules: [{input: int8x}]", "top.yaml:1:17: rule '*': unknown format 'int8x'"),
        ("rules: {append: []}", "top.yaml:1:8: rules: expected a list, which is appended, or "),
        ("- seed", "top.yaml:1:1: files are laid over one another key by key, and this one is a"),
    ],
)
def test_messages_name_the_file_at_fault(tmp_path, top: str, place: str) -> None:
    (tmp_path / "base.yaml").write_text(BASE)
    (tmp_path / "top.yaml").write_text(top)
    with pytest.raises(DovetailError) as refusal:
        load([tmp_path / "base.yaml", tmp_path / "top.yaml"])
    assert str(refusal.value).startswith(place)


def test_problems_are_told_in_the_order_of_the_files(tmp_path) -> None:
    (tmp_path / "base.yaml").write_text(BASE.replace("seed: 3", "seed: x"))
    (tmp_path / "top.yaml").write_text("threads: y")
    with pytest.raises(DovetailError) as refusal:
        load([tmp_path / "base.yaml", tmp_path / "top.yaml"])
    assert [line.split(":")[0] for line in str(refusal.value).splitlines()] == (
        ["base.yaml", "top.yaml"]
    )


def test_overrides_come_after_the_files(tmp_path) -> None:
    (tmp_path / "base.yaml").write_text(BASE)
    (tmp_path / "top.yaml").write_text("seed: 5")
    (tmp_path / "empty.yaml").write_text("# nothing\n")
    paths = [tmp_path / name for name in ("base.yaml", "top.yaml", "empty.yaml")]
    assert load(paths).spec.seed == 5
    assert load(paths, ["seed=6"]).spec.seed == 6
    assert [rule.source for rule in load(paths).recipe] == ["base.yaml:5", "base.yaml:6"]


def test_no_file_is_refused() -> None:
    with pytest.raises(DovetailError, match="which experiment"):
        load([])
