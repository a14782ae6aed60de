from __future__ import annotations

import pickle

import pytest
from hypothesis import given
from hypothesis import strategies as st

import dovetail as dv
from dovetail.arithmetic import EXACT

formats = st.none() | st.sampled_from(
    ["int8", "int4(affine)", "uint8", "int16(full)", "int8(dynamic, po2)", "int8(channel=0)"]
).map(dv.format)
arithmetics = st.builds(
    dv.Arithmetic,
    input=formats,
    weight=formats,
    bias=formats,
    output=formats,
    mul=st.sampled_from(["exact", "mul8s_1KV9", "drum(k=6, bits=8)"]).map(dv.multiplier),
    acc=st.none() | st.sampled_from(["int16", "int24(saturate, end)"]).map(dv.accumulator),
    grad=st.sampled_from(["ste", "ste(unclipped)", "lut1d", "lut2d(unclipped, window=4)"]),
)


@given(arithmetics)
def test_the_spelling_reads_back(arithmetic):
    assert dv.Arithmetic.parse(arithmetic.spelling) == arithmetic
    assert pickle.loads(pickle.dumps(arithmetic)) == arithmetic
    assert hash(dv.Arithmetic.parse(arithmetic.spelling)) == hash(arithmetic)


@given(arithmetics, arithmetics)
def test_equal_spellings_are_equal_values(a, b):
    assert (a.spelling == b.spelling) == (a == b)


def test_the_default_asks_nothing():
    assert dv.Arithmetic() == EXACT
    assert EXACT.is_exact
    assert EXACT.describe() == {}
    assert not EXACT.multiplies_codes
    EXACT.check()


def test_a_gradient_alone_is_not_exact_but_computes_exactly():
    assert dv.Arithmetic(grad="ste(unclipped)").describe() == {"grad": "ste(unclipped)"}


def test_it_is_frozen():
    with pytest.raises(AttributeError):
        EXACT.grad = "ste(unclipped)"


def made(**fields):
    readers = {"mul": dv.multiplier, "acc": dv.accumulator, "grad": str}
    return dv.Arithmetic(**{k: readers.get(k, dv.format)(v) for k, v in fields.items()})


@pytest.mark.parametrize(
    "fields",
    [
        {"input": "int8", "weight": "int8", "mul": "mul8s_1KV9"},
        {"input": "int4", "weight": "int8(full)", "mul": "mul8s_1KV9"},  # narrower codes fit
        {"input": "uint8", "weight": "int8"},  # exact takes any pair
        {"input": "uint7", "weight": "int8", "mul": "mul8s_1KV9"},  # 0..127 are signed bytes too
        {"input": "int8(affine)", "weight": "int8(channel=0)", "acc": "int16"},
        {"weight": "int8(channel=1)"},
        {"input": "int8(dynamic, channel=1)"},
        {"output": "int8(affine)", "bias": "int16"},
    ],
)
def test_what_an_op_can_compute(fields):
    made(**fields).check()


@pytest.mark.parametrize(
    ("fields", "nearest"),
    [
        ({"input": "int8", "weight": "int12", "mul": "mul8s_1KV9"}, "fits is 'int8'"),
        ({"input": "uint8", "weight": "uint8", "mul": "mul8s_1KV9"}, "fits is 'int8'"),
        ({"input": "int8", "weight": "int8", "mul": "mitchell(bits=8, signed=False)"}, "'uint8'"),
        ({"mul": "mul8s_1KV9"}, "such as 'int8'"),
        ({"input": "int8", "acc": "int32"}, "such as 'int8'"),
        ({"input": "int8(channel=0)", "weight": "int8"}, "works is 'int8'"),
    ],
)
def test_refusals(fields, nearest):
    with pytest.raises(dv.DovetailError) as raised:
        made(**fields).check()
    assert nearest in str(raised.value)


def test_unknown_gradient():
    with pytest.raises(dv.DovetailError, match="unknown gradient 'st'; did you mean 'ste'"):
        dv.Arithmetic(grad="st")
