"""Spellings of gradients, and what they refuse."""

from __future__ import annotations

import pickle

import pytest

import dovetail as dv
from dovetail.errors import DovetailError
from dovetail.gradients import Gradient, gradient
from dovetail.multipliers import any_multiplier

CANONICAL = [
    "ste",
    "ste(unclipped)",
    "lut1d",
    "lut2d",
    "lut2d(window=4)",
    "lut2d(unclipped, window=0)",
    "approx",
    "approx(lsq)",
]


@pytest.mark.parametrize("text", CANONICAL)
def test_canonical_spellings_read_back(text):
    value = gradient(text)
    assert str(value) == text
    assert gradient(str(value)) == value
    assert hash(gradient(str(value))) == hash(value)
    assert pickle.loads(pickle.dumps(value)) == value


@pytest.mark.parametrize(
    ("text", "canonical"),
    [
        ("ste(clip)", "ste"),
        ("ste(cast=clip)", "ste"),
        ("lut2d(cast=unclipped, window=4)", "lut2d(unclipped, window=4)"),
        ("lut2d(window=auto)", "lut2d"),
    ],
)
def test_other_spellings_of_the_same(text, canonical):
    assert str(gradient(text)) == canonical


@pytest.mark.parametrize(
    ("text", "message"),
    [
        ("st", r"unknown gradient 'st'; did you mean 'ste'\?"),
        ("lut2d(windov=4)", r"unknown argument 'windov'; did you mean 'window'\?"),
        ("lut1d(window=4)", "window=4: lut1d smooths nothing; 'lut2d' has a window"),
        ("lut2d(window=-1)", "window=-1: give a whole number of codes"),
        ("lut2d(window=2.5)", "window=2.5: give a whole number of codes"),
        ("ste(clipp)", r"unknown gradient of a cast 'clipp'; did you mean 'clip'\?"),
        ("ste(clip, cast=unclipped)", "name one gradient of the cast"),
        ("ste(", "expected a value at character 5"),
    ],
)
def test_refusals(text, message):
    with pytest.raises(DovetailError, match=message):
        gradient(text)


def test_what_is_no_text_is_refused():
    with pytest.raises(DovetailError, match="a gradient is a text such as"):
        gradient(3)


def test_rules_arithmetics_and_files_take_texts_and_values():
    value = Gradient("lut2d", window=4)
    rule = dv.rule("*", input="int8", weight="int8", mul="mul8s_1KV9", grad=value)
    assert rule == dv.rule(
        "*", input="int8", weight="int8", mul="mul8s_1KV9", grad="lut2d(window=4)"
    )
    assert rule.spelled()["grad"] == "lut2d(window=4)"
    assert dv.Arithmetic(grad="lut2d(window=4)").grad == value
    assert dv.Arithmetic(grad=value).describe() == {"grad": "lut2d(window=4)"}


CODES = {"input": dv.format("int8"), "weight": dv.format("int8")}


@pytest.mark.parametrize(
    ("fields", "kind", "message"),
    [
        ({}, "linear", "lut2d needs a multiplier's products of integer codes.*no codes"),
        (
            {
                "input": dv.format("bf16"),
                "weight": dv.format("bf16"),
                "mul": "mitchell(format=bf16)",
            },
            "linear",
            "multiply floating-point numbers",
        ),
        (
            {},
            "softmax",
            "lut2d is about the operands of products, and softmax has none: give",
        ),
        (
            CODES | {"mul": "mul8s_1KV9", "grad": "lut2d(window=200)"},
            "conv",
            "a window of 200 is too wide for the 255 codes of the input; the widest is 127",
        ),
        (
            {"input": dv.format("int16"), "weight": dv.format("int16"), "mul": "mitchell(bits=16)"},
            "linear",
            "has no exact factors.*use grad='ste'",
        ),
        (
            {
                "input": dv.format("uint8"),
                "weight": dv.format("uint8"),
                "mul": "mul8u_1JJQ",
                "grad": "approx(unclipped)",
            },
            "conv",
            r"unsigned: give 'sign_magnitude\(mul8u_1JJQ@v2022\)', or grad='ste\(unclipped\)'",
        ),
        (
            {
                "input": dv.format("int8"),
                "weight": dv.format("int4"),
                "mul": "exact(bits=(8, 4), signed=True)",
                "grad": "approx",
            },
            "linear",
            "second operand then, but input=int8 has codes -127..127 and .* takes -8..7 .*'int4'",
        ),
        ({"grad": "approx"}, "matmul", "approx needs a multiplier's products of integer codes"),
    ],
)
def test_arithmetics_refuse_what_has_no_table(fields, kind, message):
    fields = {"grad": "lut2d"} | fields
    if "mul" in fields:
        fields["mul"] = any_multiplier(fields["mul"])
    with pytest.raises(DovetailError, match=message):
        dv.Arithmetic(**fields).check(kind)
