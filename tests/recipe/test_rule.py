from __future__ import annotations

import copy
import pickle

import numpy as np
import pytest
import torch
from torch import nn

import dovetail as dv
from dovetail.recipe import FIELDS


def test_fields_are_read_into_values():
    made = dv.rule(
        "conv*",
        op="conv",
        type=nn.Conv2d,
        optional=True,
        input="int8(affine)",
        weight=dv.format("int4"),
        weight_storage="mxfp4",
        other="fp16",
        bias=None,
        output="exact",
        sparsity="2:4",
        mul="mul8s_1L2H@v1.1",
        acc={"format": "int16", "overflow": "saturate", "when": "end"},
        fn="poly2(fp16)",
        grad="ste(unclipped)",
    )
    assert set(made.fields) == set(FIELDS)
    assert made.fields["input"] == dv.format("int8(affine)")
    assert made.fields["bias"] is None
    assert made.fields["output"] is None
    assert made.fields["acc"] == dv.accumulator("int16(saturate, end)")
    assert made.selector.type == "Conv2d"
    assert made.spelled() == {
        "match": "conv*",
        "op": "conv",
        "type": "Conv2d",
        "optional": True,
        "input": "int8(affine)",
        "weight": "int4",
        "weight_storage": "mxfp4",
        "other": "fp16",
        "bias": "exact",
        "output": "exact",
        "sparsity": "2:4",
        "mul": "mul8s_1L2H@v1.1",
        "acc": "int16(saturate, end)",
        "fn": "poly2(fp16)",
        "grad": "ste(unclipped)",
    }


def test_spelled_reads_back_as_an_equal_rule():
    made = dv.rule("a.*", op="linear matmul", input="uint8", weight="int8(po2)", acc="int24")
    assert dv.rule(**made.spelled()) == made


@pytest.mark.parametrize(
    "mul", [np.zeros((256, 256), dtype=np.int16), torch.zeros(256, 256, dtype=torch.int32)]
)
def test_a_multiplier_may_be_anything_that_makes_one(mul):
    assert dv.rule("*", mul=mul).fields["mul"].max_abs == 0


def test_the_source_is_part_of_errors_but_not_of_equality():
    assert dv.rule("*", input="int8") == dv.rule("*", input="int8", source="digits.yaml:7")
    assert dv.rule("*", input="int8", source="digits.yaml:7").label == "digits.yaml:7"
    with pytest.raises(dv.DovetailError) as raised:
        dv.rule("conv*", inptu="int8", source="digits.yaml:7")
    assert str(raised.value).startswith(
        "digits.yaml:7: rule 'conv*': unknown rule field 'inptu'; did you mean 'input'? Known: acc,"
    )


@pytest.mark.parametrize("again", [copy.deepcopy, lambda r: pickle.loads(pickle.dumps(r))])
def test_copies_are_equal(again):
    made = dv.rule("conv*", input="int8", mul="mul8s_1KV9", acc="int16")
    assert again(made) == made


@pytest.mark.parametrize(
    ("make", "message"),
    [
        (lambda: dv.rule("*"), "rule '*' sets no field; it can set input, weight, weight_storage"),
        (lambda: dv.rule(3, input="int8"), "match is a glob such as 'conv*', not 3"),
        (lambda: dv.rule("*", input="int9x"), "rule '*': unknown format 'int9x'; did you mean"),
        (lambda: dv.rule("*", input="int17"), "the nearest is 'int16'"),
        (lambda: dv.rule("*", mul="mul8s_1KV"), "rule '*': unknown multiplier 'mul8s_1KV'"),
        (lambda: dv.rule("*", acc="int4"), "accumulator 'int4': 8 to 64 bits; nearest 'int8'"),
        (lambda: dv.rule("*", acc="i32"), "unknown accumulator 'i32'; did you mean 'int32'?"),
        (lambda: dv.rule("*", grad="stee"), "unknown gradient 'stee'; did you mean 'ste'?"),
        (lambda: dv.rule("*", op="lin", input="int8"), "unknown op 'lin'; did you mean 'linear'?"),
        (
            lambda: dv.rule("*", mul=np.zeros((200, 256), dtype=np.int32)),
            "the table is 200x256; expected 2**a rows",
        ),
        (lambda: dv.rule("*", mul=np.zeros((256, 256))), "the table holds float64"),
        (
            lambda: dv.rule("*", mul=np.full((256, 256), 2**40)),
            "products must fit int32",
        ),
    ],
)
def test_refusals(make, message):
    with pytest.raises(dv.DovetailError) as raised:
        make()
    assert message in str(raised.value)
