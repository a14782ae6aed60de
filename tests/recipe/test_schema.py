"""The experiment file: what it takes, what it refuses and where, and that it is lossless."""

from __future__ import annotations

import numpy as np
import pytest

import dovetail as dv
from dovetail.errors import DovetailError
from dovetail.recipe.experiment import Experiment
from dovetail.recipe.recipe import Recipe
from dovetail.recipe.rule import FIELDS, rule
from dovetail.recipe.schema import dump, load, loads
from dovetail.recipe.sections.rules import RuleSpec

GOOD = """\
dovetail: 1
model: {builtin: digits-cnn}
data: {builtin: digits, seed: 0}
rules:
  - {match: "*", input: int8, weight: int8, acc: {format: int24, overflow: wrap}}
  - {match: "conv*", mul: mul8s_1L2H@v1.1, grad: ste}
fit: {epochs: 1, lr: 5e-4}
require: {accuracy: ">=0.95"}
"""


def test_a_good_file_is_read() -> None:
    file = loads(GOOD, "d.yaml")
    assert [r.source for r in file.recipe] == ["d.yaml:5", "d.yaml:6"]
    assert file.recipe.rules[0].fields["acc"] == dv.accumulator("int24(wrap)")
    assert file.recipe.rules[1].fields["mul"] == dv.multiplier("mul8s_1L2H@v1.1")
    assert file.spec.fit is not None
    assert file.spec.fit.lr == 5e-4


@pytest.mark.parametrize(
    ("old", "new", "message"),
    [
        ("grad", "gradd", "d.yaml:6:44: rules.1: unknown key 'gradd'; did you mean 'grad'?"),
        ("rules", "rule", "d.yaml:4:1: unknown key 'rule'; did you mean 'rules'?"),
        ("rules", "rule", "d.yaml:1:1: the key 'rules' is missing"),
        ("fit:", "train:", "d.yaml:7:1: unknown key 'train'"),
        ("accuracy", "acuracy", "require: unknown key 'acuracy'; did you mean 'accuracy'?"),
        ("dovetail: 1\n", "", "the key 'dovetail' is missing"),
        ("dovetail: 1", "dovetail: 2", "d.yaml:1:11: dovetail: this dovetail reads version 1"),
        ("dovetail: 1", "dovetail: true", "reads version 1 of the experiment file, not true"),
        ("epochs: 1", "epochs: one", "d.yaml:7:15: fit.epochs: expected a whole number, got the "
                                     "text 'one'"),
        ("epochs: 1", "epochs: 1.5", "fit.epochs: expected a whole number, got the number 1.5"),
        ("epochs: 1", "epochs: true", "fit.epochs: expected a whole number, got true"),
        ("epochs: 1", "epochs: 0", "fit.epochs: must be at least 1, got the number 0"),
        ("5e-4", "-1", "fit.lr: must be more than 0"),
        ("{builtin: digits-cnn}", "digits-cnn", "d.yaml:2:8: model: expected a mapping"),
        ("{builtin: digits-cnn}", "{}", "exactly one of the keys 'builtin' and 'python'"),
        ("builtin: digits-cnn", "python: foo", "expected 'package.module:function', got the text"),
        ("builtin: digits-cnn", "builtin: 3", "d.yaml:2:18: model.builtin: expected text"),
        ('">=0.95"', "0.95", "d.yaml:8:21: require.accuracy: expected a condition such as"),
        ("input: int8", "input: int9x", "d.yaml:5:25: rule '*': unknown format 'int9x'; did you "
                                        "mean 'int9'?"),
        ("input: int8", "input: 8", "d.yaml:5:25: rules.0.input: expected text such as"),
        ("input: int8", "optional: maybe", "rules.0.optional: expected true or false"),
        ("mul8s_1L2H@", "mul8s_1L2X@", "d.yaml:6:27: rule 'conv*': unknown multiplier"),
        ("overflow: wrap", "overflow: wrapp", "did you mean 'wrap'?"),
        ("overflow: wrap", "overflow: [1]", "'overflow' must be text, a number or true"),
        ("format: int24, ", "", "the mapping needs the key 'format'"),
        ("grad: ste", "grad: stee", "d.yaml:6:50: rule 'conv*': unknown gradient 'stee'"),
        ("grad: ste", "op: convv", "d.yaml:6:48: unknown op 'convv'; did you mean 'conv'?"),
        ('"conv*"', '"re:conv("', "d.yaml:6:13: match 're:conv(' is no regular expression"),
    ],
)  # fmt: skip
def test_a_bad_file_is_refused_with_its_place(old: str, new: str, message: str) -> None:
    assert old in GOOD
    with pytest.raises(DovetailError) as caught:
        loads(GOOD.replace(old, new), "d.yaml")
    assert message in str(caught.value)


@pytest.mark.parametrize(
    ("text", "message"),
    [
        ("", "the key 'dovetail' is missing"),
        ("- 1", "d.yaml:1:1: an experiment file is a mapping"),
        ("dovetail: 1\nrules: []", "d.yaml:2:8: rules: must not be empty"),
        ("dovetail: 1\nrules: {match: x}", "d.yaml:2:8: rules: expected a list, got a mapping"),
        ("dovetail: 1\nrules: [{match: x}]", "d.yaml:2:9: rules.0: the rule sets nothing"),
        ("dovetail: 1\nrules: [a]", "rules.0: expected a mapping such as"),
        (GOOD + "measure: [sqnr]", "measure: accuracy must be in the list"),
        (GOOD + "measure: [accuracy, sqnrr]", "d.yaml:9:21: measure.1: unknown value 'sqnrr'"),
        (GOOD + "measure: sqnr", "d.yaml:9:10: measure: expected a list"),
        (GOOD.replace("accuracy:", "sqnr:") + "measure: [accuracy]", "needs 'sqnr' in the list"),
        (GOOD + "report: ''", "report: must not be empty"),
    ],
)
def test_a_file_of_the_wrong_shape_is_refused(text: str, message: str) -> None:
    with pytest.raises(DovetailError) as caught:
        loads(text, "d.yaml")
    assert message in str(caught.value)


def test_all_mistakes_are_told_at_once_in_the_order_of_the_file() -> None:
    text = GOOD.replace("epochs: 1", "epochs: x").replace("seed: 0", "seed: -1") + "zzz: 1\n"
    with pytest.raises(DovetailError) as caught:
        loads(text, "d.yaml")
    places = [line.split(": ")[0] for line in str(caught.value).splitlines()]
    assert places == ["d.yaml:3:31", "d.yaml:7:15", "d.yaml:9:1"]


def test_overrides_come_before_the_checks() -> None:
    file = loads(GOOD, "d.yaml", ["rules.1.mul=exact", "fit=null"])
    assert file.recipe.rules[1].fields["mul"] == dv.multiplier("exact")
    assert file.spec.fit is None
    with pytest.raises(DovetailError, match=r"^--set fit\.epochs=x: fit\.epochs: expected a whole"):
        loads(GOOD, "d.yaml", ["fit.epochs=x"])


def test_the_written_file_spells_out_defaults_and_reads_back_equal() -> None:
    file = loads(GOOD, "d.yaml")
    text = dump(file)
    again = loads(text, "again.yaml")
    assert again.recipe == file.recipe
    assert dump(again) == text
    for default in ("batches: 4", "observer: minmax", "seed: 0", "batch_size: 64", "measure:"):
        assert default in text


RULES = [
    rule("*", input="int8", weight="int4(channel=0)", bias="int16", output="int8(affine)"),
    rule("re:layers.[0-9]+", op="linear", type="Linear", optional=True, acc="int16(saturate, end)"),
    rule("a, b: *", mul="drum(k=4)", grad="ste(unclipped)"),
    rule("fc", input="exact", acc="exact", mul="exact"),
    rule("no", input="int8(observer=percentile(99.9))", mul="mul8s_1L2H@v1.1"),
]


def test_recipes_survive_save_and_load(tmp_path) -> None:
    recipe = Recipe(*RULES)
    recipe.save(tmp_path / "r.yaml")
    assert Recipe.load(tmp_path / "r.yaml") == recipe
    assert Recipe.load(tmp_path / "r.yaml").rules[0].source == "r.yaml:3"


def test_a_recipe_that_no_file_can_hold_is_refused(tmp_path) -> None:
    made = dv.multiplier(lambda a, w: a * w + 1, bits=4)
    recipe = Recipe(rule("*", input="int4", weight="int4", mul=made))
    with pytest.raises(DovetailError, match=r"rule 1: no file can hold mul=.*: save its table\(\)"):
        recipe.save(tmp_path / "r.yaml")
    assert not (tmp_path / "r.yaml").exists()


def test_a_table_in_a_file_stays_a_file(tmp_path) -> None:
    path = tmp_path / "t.npy"
    np.save(path, np.arange(256, dtype=np.int32).reshape(16, 16))
    text = f"dovetail: 1\nrules: [{{mul: {{file: {path}, signed: false}}}}, {{mul: {path}}}]"
    file = loads(text)
    assert [r.fields["mul"].signed for r in file.recipe] == [False, True]
    assert f"mul: {{file: {path}, signed: false}}" in dump(file)
    assert loads(dump(file)).recipe == file.recipe


def test_a_table_in_a_file_is_checked_against_its_source(tmp_path) -> None:
    path = tmp_path / "t.hex"
    path.write_text(" ".join(f"{a * w:x}" for a in range(16) for w in range(4)))
    text = "dovetail: 1\nrules: [{mul: {file: %s, bits: [4, 2], check: '%s'}}]"
    file = loads(text % (path, "exact(bits=[4, 2], signed=False)"))
    assert [r.fields["mul"].bits for r in file.recipe] == [(4, 2)]
    assert loads(dump(file)).recipe == file.recipe
    with pytest.raises(DovetailError, match="differs from array"):
        loads(text % (path, "array(mask=0, bits=[4, 2], signed=False)"))


@pytest.mark.parametrize(
    ("mul", "message"),
    [
        ("8", "rules.0.mul: expected text such as mul8s_1KV9, or a mapping such as"),
        ("{signed: true}", "the mapping needs the key 'file'"),
        ("{file: a.npy, sined: true}", "unknown key 'sined'; did you mean 'signed'?"),
        ("{file: a.npy, signed: 1}", "'signed' is true or false, got the number 1"),
        ("{file: a.npy, bits: x}", "'bits' is a whole number, or a list such as [8, 4]"),
        ("{file: absent.npy}", "d.yaml:2:15: absent.npy: no such file"),
        ("drum(k=99)", "d.yaml:2:15: rule '*': "),
    ],
)
def test_a_multiplier_that_cannot_be_made_is_refused(mul: str, message: str) -> None:
    with pytest.raises(DovetailError) as caught:
        loads(f"dovetail: 1\nrules: [{{mul: {mul}}}]", "d.yaml")
    assert message in str(caught.value)


def test_a_rule_spec_has_the_fields_of_a_rule() -> None:
    assert set(RuleSpec.model_fields) - {"match", "op", "type", "optional"} == set(FIELDS)


def test_the_json_schema_describes_every_key() -> None:
    properties = Experiment.model_json_schema()["properties"]
    assert set(properties) == set(Experiment.model_fields)


def test_load_names_a_file_by_its_last_part(tmp_path) -> None:
    path = tmp_path / "e.yaml"
    path.write_text(GOOD)
    assert load(path).recipe.rules[0].source == "e.yaml:5"
