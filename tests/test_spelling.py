"""The text grammar shared by formats, multipliers, accumulators and observers."""

from __future__ import annotations

import pytest
from hypothesis import given
from hypothesis import strategies as st

from dovetail._spelling import parse_call, spell_call
from dovetail.errors import DovetailError


@pytest.mark.parametrize(
    ("text", "expected"),
    [
        ("int8", ("int8", [], {})),
        ("int8()", ("int8", [], {})),
        (" drum ( k = 6 , bits=8 , ) ", ("drum", [], {"k": 6, "bits": 8})),
        ("fixed(8,4)", ("fixed", [8, 4], {})),
        ("f(-3, +4, 0x1F, 1.5, 1e-3, .5, -2.)", ("f", [-3, 4, 31, 1.5, 1e-3, 0.5, -2.0], {})),
        ("f(True, false, None, word)", ("f", [True, False, None, "word"], {})),
        ("f('a (b', \"c'd\", k='')", ("f", ["a (b", "c'd"], {"k": ""})),
        ("f(bits=(8, 4), one=(1,), none=())", ("f", [], {"bits": (8, 4), "one": (1,), "none": ()})),
        ("f(bits=[8, 4], [(1, 2), []])", None),
        ("f([(1, 2), []], bits=[8, 4])", ("f", [((1, 2), ())], {"bits": (8, 4)})),
        ("mul8s_1KV9@v2022", ("mul8s_1KV9@v2022", [], {})),
        ("table(sha256:00ab, signed=True)", ("table", ["sha256:00ab"], {"signed": True})),
        ("int8(observer=percentile(99.9), po2)", None),
        ("sparse(2:4, x=g(a, b=h(1)))", ("sparse", ["2:4"], {"x": "g(a, b=h(1))"})),
    ],
)
def test_reads(text, expected):
    if expected is None:
        with pytest.raises(DovetailError, match="plain argument cannot follow"):
            parse_call(text)
    else:
        assert parse_call(text) == expected


@pytest.mark.parametrize(
    ("text", "column", "expected"),
    [
        ("", 1, "a name"),
        ("8bits", 1, "a name"),
        ("f(", 3, "a value"),
        ("f(1", 4, "',' or ')'"),
        ("f(1 2)", 5, "',' or ')'"),
        ("f(1))", 5, "the end"),
        ("f(8bits)", 3, "a number, a word"),
        ("f(k=1, k=2)", 8, "'k' only once"),
        ("f([1)", 5, "',' or ']'"),
        ("f(1])", 4, "',' or ')'"),
        ("f('abc)", 8, "a closing '"),
        ("f(=3)", 3, "a value"),
    ],
)
def test_errors_point_at_the_character(text, column, expected):
    with pytest.raises(DovetailError) as caught:
        parse_call(text)
    message = str(caught.value)
    assert f"at character {column}," in message
    assert expected in message
    assert message.splitlines()[-1] == "  " + " " * (column - 1) + "^"


def test_nothing_is_evaluated():
    assert parse_call("f(open)") == ("f", ["open"], {})
    with pytest.raises(DovetailError):
        parse_call("f(1+1*2)")


def test_not_a_text():
    with pytest.raises(DovetailError, match="expected a text"):
        parse_call(8)  # type: ignore[arg-type]


VALUES = st.recursive(
    st.integers()
    | st.booleans()
    | st.none()
    | st.floats(allow_nan=False, allow_infinity=False)
    | st.text("abcXYZ_09 .,()=:@+-", max_size=8),
    lambda inner: st.lists(inner, max_size=3).map(tuple),
    max_leaves=4,
)


@given(st.lists(VALUES, max_size=3), st.dictionaries(st.sampled_from(["k", "bits", "x_1"]), VALUES))
def test_spelling_reads_back(args, kwargs):
    assert parse_call(spell_call("name", *args, **kwargs)) == ("name", args, kwargs)
