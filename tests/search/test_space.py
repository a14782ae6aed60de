"""Spaces: who gets which choices, what is refused, and how designs are repaired."""

from __future__ import annotations

import itertools

import pytest

import dovetail as dv
from dovetail.emulation.trace import trace
from dovetail.recipe import Recipe
from dovetail.search import Space
from dovetail.search.grid import Grid
from search_models import BASE, MULS, Small, batches


def grid(space: Space, base: Recipe = BASE) -> Grid:
    model = Small()
    return Grid(model, base, space, trace(model, batches()[0][0]))


def names(space: Space, base: Recipe = BASE) -> list[str]:
    return [axis.name for axis in grid(space, base).axes]


def test_over_is_one_decision_and_each_one_for_every_operation() -> None:
    assert names(Space(over={"*.mul": MULS})) == ["*.mul"]
    assert names(Space(each={"*.mul": MULS})) == ["a.mul", "b.mul", "c.mul"]
    assert names(Space({"*.acc": ["int32", "int24"]}, {"[ab].mul": MULS})) == [
        "*.acc",
        "a.mul",
        "b.mul",
    ]


def test_a_design_is_the_base_with_a_rule_per_decision() -> None:
    made = grid(Space(each={"*.mul": MULS, "*.input+weight": ["int8", "int4"]}))
    plan = made.plan((0, 1, 2, 0, 1, 0))
    got = [
        (o.key, str(o.arithmetic.mul), str(o.arithmetic.input), str(o.arithmetic.weight))
        for o in plan
    ]
    assert got == [
        ("a", "exact", "int8", "int8"),
        ("b", "mul8s_1KVM@v2022", "int4", "int4"),
        ("c", "mul8s_1L2L@v2022", "int8", "int8"),
    ]


def test_choices_can_be_whole_rules() -> None:
    wide = {"input": "int8", "weight": "int8", "mul": "mul8s_1KVM"}
    made = grid(Space(each={"*": [wide, {"input": "mxfp4", "weight": "mxfp4"}]}), Recipe())
    assert [c.label for c in made.axes[0].choices] == [
        "input=int8, weight=int8, mul=mul8s_1KVM@v2022",
        "input=mxfp4, weight=mxfp4",
    ]
    assert str(made.plan((1, 0, 0)).ops[0].arithmetic.input) == "mxfp4"


def test_of_two_keys_of_each_the_later_counts() -> None:
    made = grid(Space(each={"*.mul": MULS, "c.mul": ["exact", "mul8s_1KVM"]}))
    assert {axis.name: len(axis.choices) for axis in made.axes} == {
        "a.mul": 3,
        "b.mul": 3,
        "c.mul": 2,
    }


def test_operations_on_one_tile_share_their_choice() -> None:
    made = grid(Space(each={"*.mul": MULS}, share={"mul": [["a", "c"]]}))
    assert [axis.name for axis in made.axes] == ["a|c.mul", "b.mul"]
    plan = made.plan((2, 0))
    assert [str(op.arithmetic.mul) for op in plan] == [
        "mul8s_1L2L@v2022",
        "exact",
        "mul8s_1L2L@v2022",
    ]


def test_few_values_are_kept_by_repair() -> None:
    made = grid(Space(each={"*.mul": MULS}, distinct={"mul": 1}))
    assert list(made.designs()) == [(0, 0, 0), (1, 1, 1), (2, 2, 2)]
    assert made.repaired((1, 0, 1)) == (1, 1, 1)
    everything = itertools.product(range(3), repeat=3)
    assert {made.repaired(design) for design in everything} == set(made.designs())


def test_designs_that_no_operation_can_compute_are_repaired() -> None:
    space = Space(
        each={"*.mul": ["exact", "drum(k=3, bits=4)"], "*.input+weight": ["int8", "int4"]}
    )
    made = grid(space)
    assert not made.is_valid((1, 0, 0, 0, 0, 0))
    assert made.repaired((1, 0, 0, 0, 0, 0)) == (1, 0, 0, 1, 0, 0)
    assert sum(1 for _ in made.designs()) == 3**3
    assert all(made.is_valid(design) for design in made.uniform())


@pytest.mark.parametrize(
    ("space", "message"),
    [
        (lambda: Space(each={"*.mull": MULS}), "unknown rule field 'mull'; did you mean 'mul'?"),
        (lambda: Space(each={"aa.mul": MULS}), "'aa'"),
        (lambda: Space(each={"*.fn": ["poly2(fp16)", "exact"]}), "fn"),
        (lambda: Space(each={"*.mul": ["exact", "mul8s_1KVN"]}), "mul8s_1KVN"),
        (lambda: Space(each={"*.mul": "exact"}), r"needs a list of choices"),
        (lambda: Space(each={"*.mul": ["exact", "exact"]}), "given twice"),
        (lambda: Space(each={"*.mul": ["exact", "drum(k=3, bits=4)"]}), "the nearest format"),
        (
            lambda: Space({"*.mul": MULS}, {"a.mul": MULS}),
            r"mul of a is searched by '\*.mul' already",
        ),
        (
            lambda: Space(each={"*.mul": MULS}, share={"mul": ["d"]}),
            "'d' matches no operation with its own mul; each has a.mul, b.mul, c.mul",
        ),
        (
            lambda: Space(each={"*.mul": MULS, "c.mul": ["exact"]}, share={"mul": ["*"]}),
            "different choices",
        ),
        (lambda: Space(each={"*.mul": MULS}, distinct={"mull": 1}), "unknown rule field 'mull'"),
        (lambda: Space(each={"*.mul": MULS}, distinct={"mul": 0}), "whole number from 1"),
        (lambda: Space(), "a search space is empty"),
    ],
)
def test_what_cannot_be_is_refused_before_any_trial(space, message: str) -> None:
    with pytest.raises(dv.DovetailError, match=message):
        grid(space())


def test_a_module_with_two_paths_is_one_decision() -> None:
    model = Small()
    model.again = model.b
    made = Grid(model, BASE, Space(each={"*.mul": MULS}), trace(model, batches()[0][0]))
    assert [axis.name for axis in made.axes] == ["a.mul", "b.mul", "c.mul"]
    assert str(made.plan((0, 2, 0))["b"].arithmetic.mul) == "mul8s_1L2L@v2022"
