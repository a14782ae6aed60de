"""YAML is read with places, by YAML 1.2's core rules, and never means two things at once."""

from __future__ import annotations

import pytest

from dovetail.errors import DovetailError
from dovetail.recipe.override import override
from dovetail.recipe.yaml_source import parse, read


def refusal(text: str) -> str:
    with pytest.raises(DovetailError) as caught:
        parse(text, "d.yaml")
    return str(caught.value)


@pytest.mark.parametrize(
    ("text", "value"),
    [
        ("2:4", "2:4"),  # YAML 1.1 reads the number 124
        ("no", "no"),  # and false
        ("2020-01-01", "2020-01-01"),  # and a date
        ("5e-4", 5e-4),  # and text
        ("0o17", 15),
        ("017", 17),
        ("0x1F", 31),
        ("-.inf", float("-inf")),
        ("~", None),
        ("", None),
        ("True", True),
        ("'true'", "true"),
        ("int8(affine)", "int8(affine)"),
        ("1_000", "1_000"),
    ],
)
def test_scalars_follow_the_core_schema(text: str, value: object) -> None:
    found = parse(f"key: {text}", "d.yaml").data["key"]
    assert found == value
    assert type(found) is type(value)


def test_every_value_has_its_place() -> None:
    doc = parse("a: 1\nrules:\n  - {match: x,\n     mul: y}\n", "d.yaml")
    assert doc.where(("rules", 0, "mul")) == "d.yaml:4:11"
    assert doc.where(("rules", 0, "mul"), key=True) == "d.yaml:4:6"
    assert doc.where(("rules", 0, "absent")) == "d.yaml:3:5"
    assert doc.line(("rules", 0)) == "d.yaml:3"


@pytest.mark.parametrize(
    ("text", "message"),
    [
        ("a: 1\na: 2", "d.yaml:2:1: the key 'a' is given twice (first on line 1)"),
        ("a:\n\tb: 1", "d.yaml:2:1: a tab in the indentation (YAML is indented with spaces)"),
        ("match: *conv", 'd.yaml:1:8: found the alias *conv, and aliases are not read; '
                         'a value that starts with * is quoted: match: "*"'),
        ("{match: *, b: 1}", 'd.yaml:1:10: a bare * (a value that starts with * is quoted'),
        ("a: b: c", "d.yaml:1:5: mapping values are not allowed here (is a quote"),
        ("x: !!python/name:os.system a", "d.yaml:1:4: the tag 'python/name:os.system'"),
        ("x: !!int y", "d.yaml:1:4: the tag 'int' is not read here"),
        ("? [a]\n: b", "d.yaml:1:3: a key must be one word"),
        ("a: 1\n---\nb: 2", "d.yaml:2:1: "),
        ("a: [1,\nb: 3", "a flow sequence that starts on line 1"),
        ("a: \x00", "d.yaml:1: the character"),
        ("[" * 5000, "d.yaml: nested too deeply"),
    ],
)  # fmt: skip
def test_what_is_malformed_is_refused_with_its_line(text: str, message: str) -> None:
    assert message in refusal(text)


def test_a_file_that_is_not_there_names_its_neighbours(tmp_path) -> None:
    (tmp_path / "digits.yaml").write_text("a: 1")
    with pytest.raises(DovetailError, match=r"no file '.*digit\.yaml'; '.*' holds digits\.yaml"):
        read(tmp_path / "digit.yaml")
    with pytest.raises(DovetailError, match="is a folder"):
        read(tmp_path)
    (tmp_path / "latin.yaml").write_bytes(b"a: \xe9")
    with pytest.raises(DovetailError, match="not UTF-8"):
        read(tmp_path / "latin.yaml")


def test_a_byte_order_mark_is_no_content(tmp_path) -> None:
    (tmp_path / "bom.yaml").write_bytes(b"\xef\xbb\xbfa: 1")
    assert read(tmp_path / "bom.yaml").data == {"a": 1}


@pytest.mark.parametrize(
    ("assignment", "message"),
    [
        ("rules.5.mul=a", "'rules' has no entry '5'; its entries are 0 to 1"),
        ("rules.x=1", "'rules' has no entry 'x'"),
        ("rules.0.mul.y=1", "'rules.0.mul' is the text 'a', so it has no entry 'y'"),
        ("rules.1.mul", "write it as path=value, such as rules.1.mul=exact"),
        ("a..b=1", "write it as path=value"),
        ("seed=[", "--set seed=[:1:2:"),
    ],
)
def test_an_override_that_leads_nowhere_is_refused(assignment: str, message: str) -> None:
    doc = parse("rules: [{mul: a}, {mul: b}]", "d.yaml")
    with pytest.raises(DovetailError) as caught:
        override(doc, assignment)
    assert message in str(caught.value)


@pytest.mark.parametrize(
    ("assignment", "value"),
    [("k=*", "*"), ("k=>=0.95", ">=0.95"), ("k=5e-4", 5e-4), ("k={a: 1}", {"a": 1}), ("k=", None)],
)
def test_an_override_is_yaml_on_one_line(assignment: str, value: object) -> None:
    doc = parse("{}", "d.yaml")
    override(doc, assignment)
    assert doc.data == {"k": value}


def test_places_inside_an_overridden_value_are_the_override() -> None:
    doc = parse("fit: {epochs: 1}", "d.yaml")
    override(doc, "fit={epochs: x}")
    assert doc.where(("fit", "epochs")) == "--set fit={epochs: x}"
    override(doc, "new.key=1")
    assert doc.where(("new",)) == "--set new.key=1"
