"""What a plan says, and what it refuses before anything is computed."""

from __future__ import annotations

import json

import pytest
import torch
from torch import nn

import dovetail as dv
from helpers import INT8, Small, build, randn


class Counted(Small):
    """Says whether gradients were on each time it ran."""

    def __init__(self) -> None:
        super().__init__()
        self.runs: list[bool] = []

    def forward(self, x):
        self.runs.append(torch.is_grad_enabled())
        return super().forward(x)


def plan(*rules, **options):
    return dv.plan(build(0, Small), dv.Recipe(*rules), randn(2, 3, 4, 4), **options)


def test_the_last_rule_wins_field_by_field():
    found = plan(
        dv.rule("*", **INT8, mul="mul8s_1KV9"),
        dv.rule("fc*", weight="int4"),
        dv.rule("fc2", mul="exact", weight="int6"),
    )
    assert [op.key for op in found] == ["conv", "fc1", "fc2", ".:matmul"]
    assert [str(op.arithmetic.weight) for op in found] == ["int8", "int4", "int6", "int8"]
    assert str(found["fc2"].arithmetic.mul) == "exact"
    assert found["fc2"].origin["weight"].label == "rule 3"
    assert found["fc2"].origin["input"].label == "rule 1"
    assert found["fc1"].origin["weight"].label == "rule 2"


def test_shapes_counts_and_what_stays_exact():
    found = plan(dv.rule("conv", **INT8))
    op = found["conv"]
    assert (op.input_shape, op.weight_shape, op.output_shape) == (
        (2, 3, 4, 4),
        (4, 3, 3, 3),
        (2, 4, 4, 4),
    )
    assert (op.reduction, op.macs, op.module_type) == (27, 2 * 4 * 16 * 27, "Conv2d")
    assert found.left_exact == (".:relu_0", "fc1", ".:relu_1", "fc2", ".:matmul")
    assert "left exact: fc1, fc2, .:matmul, 2 relu" in str(found)
    assert found.ranges == "example"


def test_the_table_and_the_dictionary_name_ops_values_and_rules():
    found = plan(dv.rule("*", **INT8), dv.rule("fc1", mul="mul8s_1KV9"))
    text = str(found)
    for word in ("conv", ".:matmul", "int8", "mul8s_1KV9@v2022", "rule 2", "ranges: example"):
        assert word in text
    assert max(map(len, text.splitlines())) <= 100
    rows = json.loads(json.dumps(found.to_dict()))["ops"]
    assert rows[1]["op"] == "fc1"
    assert rows[1]["arithmetic"]["mul"] == "mul8s_1KV9@v2022"
    assert rows[1]["from"] == {"input": "rule 1", "weight": "rule 1", "mul": "rule 2"}


def test_what_no_rule_reaches_is_listed():
    class Pairs(nn.Module):
        def forward(self, x):
            return torch.tensordot(x, x, 1) @ x

    found = dv.plan(Pairs(), dv.Recipe(dv.rule("*", **INT8)), randn(4, 4))
    assert found.uncovered == (".:tensordot",)
    assert "not reachable: .:tensordot" in str(found)


@pytest.mark.parametrize(
    ("rules", "message"),
    [
        (
            [dv.rule("*", **INT8), dv.rule("conf", weight="int4")],
            "rule 2: 'conf' matches no operation; did you mean 'conv'? "
            "Operations: conv, fc1, fc2, .:matmul.",
        ),
        (
            [dv.rule("fc1", op="conv", **INT8)],
            "rule 1: 'fc1' op=conv matches no operation. Operations: conv.",
        ),
        (
            [dv.rule(type="LSTM", **INT8)],
            "rule 1: '*' type=LSTM matches no operation. Types of module here: Conv2d, Linear, "
            "Small.",
        ),
        (
            [dv.rule("*", **INT8), dv.rule("fc2", weight="int12", mul="mul8s_1KV9")],
            "fc2 (rule 1, rule 2): weight=int12 has codes -2047..2047, but mul=mul8s_1KV9@v2022 "
            "takes -128..127: the nearest format that fits is 'int8'",
        ),
        (
            [dv.rule("conv", input="uint8", weight="int8", mul="mul8s_1KV9")],
            "conv (rule 1): input=uint8 has codes 0..255, but mul=mul8s_1KV9@v2022 takes "
            "-128..127: the nearest format that fits is 'int8'",
        ),
        (
            [dv.rule("conv", input="int8", weight="int8", mul="exact(bits=8, signed=False)")],
            "the nearest format that fits is 'uint8'",
        ),
        (
            [dv.rule("conv", mul="mul8s_1KV9")],
            "conv (rule 1): mul=mul8s_1KV9@v2022 multiplies integer codes, but input=exact and "
            "weight=exact: give both an integer format such as 'int8'",
        ),
        (
            [dv.rule("conv", input="int8", acc="int16")],
            "conv (rule 1): acc=int16 sums integer products, but input=int8 and weight=exact: "
            "give both an integer format such as 'int8'",
        ),
        (
            [dv.rule("fc1", input="int8(channel=1)", weight="int8")],
            "fc1 (rule 1): input=int8(channel=1): the products of one sum share one scale, so it "
            "cannot vary along axis 1; the nearest that works is 'int8'",
        ),
        (
            [dv.rule("fc1", input="int8", weight="int8(channel=1)")],
            "the nearest that works is 'int8(channel=0)'",
        ),
        (
            [dv.rule(".:matmul", input="int8", weight="int8(channel=0)")],
            ".:matmul (rule 1): weight=int8(channel=0): the products of one sum share one scale, "
            "so it cannot vary along axis 0; the nearest that works is 'int8'",
        ),
        (
            [dv.rule("fc1", input="int8(channel=1)", weight="int8")],
            "fc1 (rule 1): input=int8(channel=1): the products of one sum share one scale",
        ),
    ],
)
@pytest.mark.parametrize("verb", [dv.plan, dv.apply_])
def test_refusals(verb, rules, message):
    model = build(0, Small)
    before = [type(m) for m in model.modules()], list(model.state_dict())
    with pytest.raises(dv.DovetailError) as raised:
        verb(model, dv.Recipe(*rules), randn(2, 3, 4, 4))
    assert message in str(raised.value)
    assert ([type(m) for m in model.modules()], list(model.state_dict())) == before
    assert not [name for name, _ in model.named_buffers()]


def test_functional_calls_need_an_example_and_the_error_says_so():
    with pytest.raises(dv.DovetailError) as raised:
        dv.plan(build(0, Small), dv.Recipe(dv.rule(".:matmul", **INT8)))
    assert "Operations called as functions need an example." in str(raised.value)


def test_an_optional_rule_may_match_nothing():
    found = plan(dv.rule("*", **INT8), dv.rule("nothing", weight="int4", optional=True))
    assert len(found) == 4


def test_a_recipe_is_no_list_of_rules():
    with pytest.raises(
        dv.DovetailError, match=r"a recipe is dv.Recipe\(dv.rule\(...\), ...\), not"
    ):
        dv.plan(build(0, Small), [dv.rule("*", **INT8)], randn(2, 3, 4, 4))


def test_a_rule_for_an_op_that_cannot_be_reached_yet_says_so():
    class Net(nn.Module):
        def __init__(self):
            super().__init__()
            self.pair = nn.Identity()
            self.pair.forward = lambda x: torch.inner(x, x)

        def forward(self, x):
            return self.pair(x)

    with pytest.raises(dv.DovetailError) as raised:
        dv.plan(Net(), dv.Recipe(dv.rule("pair", **INT8)), randn(2, 3))
    assert "matches only 'pair:inner', and no rule can reach" in str(raised.value)


def test_the_example_runs_once_and_without_gradients():
    model = build(0, Counted)
    dv.apply_(model, dv.Recipe(dv.rule("*", **INT8)), randn(2, 3, 4, 4))
    assert model.runs == [False]


def test_branches_not_taken_by_the_example_are_not_in_the_plan():
    class Branch(nn.Module):
        def __init__(self) -> None:
            super().__init__()
            self.a, self.b = nn.Linear(3, 3), nn.Linear(3, 3)

        def forward(self, x):
            return self.a(x) if x.shape[0] < 5 else self.b(x)

    with pytest.raises(dv.DovetailError, match="'b' matches no operation"):
        dv.plan(build(0, Branch), dv.Recipe(dv.rule("b", **INT8)), torch.ones(2, 3))


@pytest.mark.parametrize(
    ("rule", "message"),
    [
        (dv.rule(op="softmax", output="bf16"), "Kinds of operation here: gelu, linear."),
        (dv.rule(type="Linar", **INT8), "did you mean 'Linear'? Types of module here: Linear."),
        (dv.rule(type="Linear", match="3", **INT8), "Operations: 0, 2."),
    ],
)
def test_what_matches_nothing_is_told_what_there_is(rule, message):
    model = nn.Sequential(nn.Linear(4, 4), nn.GELU(), nn.Linear(4, 2))
    with pytest.raises(dv.DovetailError) as raised:
        dv.plan(model, dv.Recipe(rule), torch.ones(1, 4))
    assert message in str(raised.value)


@pytest.mark.parametrize(
    ("fields", "message"),
    [
        ({"input": "mxfp4(axis=2)"}, "0 (rule 1): input: axis=2 of 'mxfp4(axis=2)' is not an axis"),
        ({"weight": "shaped(mxfp4, permute=(2, 0, 1))"}, "0 (rule 1): weight: permute=(2, 0, 1)"),
        ({"output": "shaped(mxfp4, keep=(0, 0, 9))"}, "0 (rule 1): output: keep=(0, 0, 9)"),
    ],
)
def test_formats_that_do_not_fit_the_shapes_of_the_example_are_refused(fields, message):
    model = nn.Sequential(nn.Linear(4, 4))
    with pytest.raises(dv.DovetailError) as raised:
        dv.apply_(model, dv.Recipe(dv.rule("0", **fields)), torch.ones(2, 4))
    assert message in str(raised.value)
    assert type(model[0]) is nn.Linear
