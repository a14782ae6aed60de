from __future__ import annotations

import pytest

import dovetail as dv
from dovetail.arithmetic import EXACT
from dovetail.recipe import OpAddress

CONV = OpAddress("conv1", "conv", bare=True)
HEAD = OpAddress("head", "linear", bare=True)

RECIPE = dv.Recipe(
    dv.rule("*", input="int8", weight="int8", acc="int32"),
    dv.rule("conv*", mul="mul8s_1L2H@v1.1", weight="int8(full)"),
    dv.rule("head", weight="int4", acc="exact", source="digits.yaml:9"),
)


def test_the_last_match_wins_field_by_field():
    conv, origin = RECIPE.resolve(CONV)
    assert conv.describe() == {
        "input": "int8",
        "weight": "int8(full)",
        "mul": "mul8s_1L2H@v1.1",
        "acc": "int32",
    }
    assert {k: r.label for k, r in origin.items()} == {
        "input": "rule 1",
        "weight": "rule 2",
        "mul": "rule 2",
        "acc": "rule 1",
    }


def test_exact_undoes_what_an_earlier_rule_set():
    head, origin = RECIPE.resolve(HEAD)
    assert head.acc is None
    assert origin["acc"].label == "digits.yaml:9"


def test_an_op_that_nothing_matches_is_exact():
    assert dv.Recipe(dv.rule("conv*", input="int8")).resolve(HEAD) == (EXACT, {})


def test_concatenation_keeps_order_and_length():
    both = dv.Recipe(dv.rule("*", input="int8")) + dv.Recipe(dv.rule("*", input="int4"))
    assert len(both) == 2
    assert str(both.resolve(HEAD)[0].input) == "int4"


def test_recipes_are_values():
    again = dv.Recipe(*RECIPE)
    assert again == RECIPE
    assert dv.Recipe(dv.rule("*", input="int8")) != RECIPE


def test_saved_and_loaded(tmp_path):
    RECIPE.save(tmp_path / "recipe.yaml")
    assert dv.Recipe.load(tmp_path / "recipe.yaml") == RECIPE


@pytest.mark.parametrize("wrong", ["*", {"match": "*"}, None])
def test_only_rules_make_a_recipe(wrong):
    with pytest.raises(dv.DovetailError, match=r"made of dv.rule\(...\), not .* \(number 2\)"):
        dv.Recipe(dv.rule("*", input="int8"), wrong)
