"""The key `recover` of an experiment file: what may stand there is what the functions take."""

from __future__ import annotations

import inspect

import pytest

import dovetail as dv
from dovetail.recipe.experiment import Experiment, keys_under
from dovetail.recipe.schema import dump, loads
from dovetail.recipe.sections.recover import BEFORE_EMULATION, RecoverSpec

NAMES = tuple(RecoverSpec.model_fields)


def _read(text: str):
    return loads(f"dovetail: 1\nrules: [{{input: int8}}]\nrecover: {text}\n", "a.yaml").spec.recover


@pytest.mark.parametrize("name", NAMES)
def test_options_and_defaults_are_those_of_the_function(name):
    parameters = inspect.signature(getattr(dv, name)).parameters
    keywords = {n: p.default for n, p in parameters.items() if p.kind is p.KEYWORD_ONLY}
    keywords.pop("observer", None)  # the calibration's
    (spec,) = _read(f"[{name}]")
    assert spec.options == keywords
    assert list(keys_under(("recover", 0, name))) == list(keywords)


def test_every_form_of_an_entry():
    read = _read("[correct_bias, {smoothquant: {alpha: 0.8, select: ['a*', b]}}, {awq: null}]")
    assert [item.name for item in read] == ["correct_bias", "smoothquant", "awq"]
    assert read[1].options["alpha"] == 0.8
    assert list(read[1].options["select"]) == ["a*", "b"]
    assert _read("[]") == []


def test_it_is_written_with_every_default_and_read_back():
    text = "dovetail: 1\nrules: [{input: int8}]\nrecover: [equalise, {rotate: {block: 4}}]\n"
    file = loads(text)
    lines = dump(file).splitlines()
    assert (
        "recover: [{equalise: {select: '*'}}, {rotate: {select: '*', block: 4, seed: 0}}]" in lines
    )
    assert loads(dump(file)).spec.recover == file.spec.recover


@pytest.mark.parametrize(
    ("text", "message"),
    [
        ("[smothquant]", r"recover\.0: unknown key 'smothquant'; did you mean 'smoothquant'"),
        ("[{awq: {gird: 3}}]", r"recover\.0\.awq: unknown key 'gird'; did you mean 'grid'"),
        ("[{smoothquant: {alpha: 2}}]", r"recover\.0\.smoothquant\.alpha: "),
        ("[{smoothquant: {fuse: allways}}]", "unknown value 'allways'"),
        ("[{rotate: {block: 1}}]", r"rotate\.block: must be at least 2, got the number 1"),
        ("[{awq: {}, rotate: {}}]", "one recipe to an entry of the list, not 2"),
        ("[3]", "expected the name of a recipe, or a mapping such as"),
        ("smoothquant", "expected a list"),
        ("[equalise, fold_batch_norm]", "fold_batch_norm changes the model before the rules do"),
    ],
)
def test_refusals_name_the_place(text, message):
    with pytest.raises(dv.DovetailError, match=message) as raised:
        _read(text)
    assert str(raised.value).startswith("a.yaml:3:")


def test_the_schema_lists_them():
    definitions = Experiment.model_json_schema()["$defs"]
    assert set(definitions["RecoverSpec"]["properties"]) == set(NAMES)
    assert set(BEFORE_EMULATION) <= set(NAMES)
