"""Experiment files read and written: checked values from text, every refusal with its line."""

from __future__ import annotations

from collections.abc import Iterable, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import yaml
from pydantic import ValidationError

from dovetail._files import target
from dovetail._spelling import parse_call
from dovetail.errors import DovetailError, unknown
from dovetail.multipliers.kept import KEPT_KINDS
from dovetail.recipe import yaml_source
from dovetail.recipe.document import Document, at, describe
from dovetail.recipe.experiment import Experiment, keys_under
from dovetail.recipe.overlay import overlaid
from dovetail.recipe.override import override
from dovetail.recipe.recipe import Recipe
from dovetail.recipe.refusals import problem
from dovetail.recipe.rule import Rule, rule
from dovetail.recipe.sections.rules import RuleSpec
from dovetail.recipe.sections.spelling import loaded
from dovetail.recipe.selectors import Selector

__all__ = [
    "ExperimentFile",
    "dump",
    "dump_rules",
    "load",
    "load_rules",
    "loads",
    "names_data",
    "spell_rules",
]


@dataclass(frozen=True)
class ExperimentFile:
    """A checked experiment, its rules as a recipe, and where in the file each key stands."""

    spec: Experiment
    recipe: Recipe
    document: Document

    def where(self, *path: str | int) -> str:
        """`file:line:column` of a value, for messages about it."""
        return self.document.where(path)


def load(path: str | Path | Sequence[str | Path], overrides: Iterable[str] = ()) -> ExperimentFile:
    """Read and check an experiment file; `overrides` such as `"rules.1.mul=exact"` come first.

    Of several files each is laid over those before it (see :mod:`dovetail.recipe.overlay`).

    >>> load("no-such-file.yaml")
    Traceback (most recent call last):
    dovetail.errors.DovetailError: no file 'no-such-file.yaml'
    """
    paths = [path] if isinstance(path, (str, Path)) else list(path)
    if not paths:
        raise DovetailError("which experiment? Give its file, such as examples/digits.yaml")
    return _checked(overlaid(yaml_source.read(each) for each in paths), overrides)


def loads(text: str, name: str = "<text>", overrides: Iterable[str] = ()) -> ExperimentFile:
    """Like `load`, from text.

    >>> loads("dovetail: 1\\nrules: [{input: int8}]").recipe.rules[0].source
    '<text>:2'
    >>> loads("dovetail: 1\\nrules: [{inputs: int8}]", "a.yaml")
    Traceback (most recent call last):
    dovetail.errors.DovetailError: a.yaml:2:10: rules.0: unknown key 'inputs'; did you mean ...
    """
    return _checked(yaml_source.parse(text, name), overrides)


def load_rules(path: str | Path) -> list[Rule]:
    """The rules of an experiment file; each rule's `source` is its file and line."""
    return list(load(path).recipe)


def spell_rules(rules: Sequence[Rule], name: str = "<text>") -> str:
    """Rules as the text of an experiment file, which `loads` reads back as equal rules.

    A multiplier made from data in memory is spelt by its digest: only a process that has made it
    again can read it back.

    >>> print(spell_rules([rule("conv*", input="int8")]))
    dovetail: 1
    rules:
      - {match: conv*, input: int8}
    """
    text = f"dovetail: 1\n{_rules_text([item.spelled() for item in rules])}"
    for before, after in zip(rules, loads(text, name).recipe, strict=True):
        if before != after:
            raise DovetailError(
                f"{before.label} cannot be written: {before.spelled()} would not be read back as "
                f"the same rule"
            )
    return text


def dump_rules(rules: Sequence[Rule], path: str | Path) -> None:
    """Write rules as a file that `load_rules` reads back as equal rules."""
    place = target(path)
    for item in rules:
        if names_data(item):
            raise DovetailError(
                f"{item.label}: no file can hold mul={item.fields['mul']}, made from data in "
                f"memory: save its table(), such as to table.npy, and write the rule by hand with "
                f"mul: {{file: table.npy}}"
            )
    place.write_text(spell_rules(rules, str(path)), encoding="utf-8")


def dump(file: ExperimentFile) -> str:
    """The experiment as YAML text, every default spelled out.

    >>> "fit: null" in dump(loads("{dovetail: 1, rules: [{input: int8}]}")).splitlines()
    True
    """
    values = file.spec.model_dump(exclude={"rules"})
    for key, value in values.items():
        if isinstance(value, dict):
            values[key] = {k: v for k, v in value.items() if v is not None}
    lines = []
    for key in Experiment.model_fields:
        if key == "rules":
            pairs = zip(file.recipe, file.spec.rules, strict=True)
            lines.append(_rules_text([_spelled(item, written) for item, written in pairs]))
        elif key == "recover":
            lines.append(f"{key}: {_flow([item.spelled() for item in file.spec.recover])}\n")
        else:
            lines.append(f"{key}: {_flow(values[key])}\n")
    return "".join(lines)


def _spelled(item: Rule, written: RuleSpec) -> dict[str, Any]:
    """The rule in canonical spelling; a multiplier from a file stays the file's name."""
    words = item.spelled()
    return words | {"mul": written.mul} if names_data(item) else words


def names_data(item: Rule) -> bool:
    """Whether the multiplier's spelling is only a digest of the user's own data, which no file can
    hold."""
    mul = item.fields.get("mul")
    return mul is not None and parse_call(repr(mul))[0] in KEPT_KINDS


def _rules_text(rules: Iterable[dict[str, Any]]) -> str:
    lines = "".join(f"  - {_flow(words)}\n" for words in rules)
    return f"rules:\n{lines}" if lines else "rules: []\n"


def _flow(value: Any) -> str:
    """One value on one line. Inside a list, so that PyYAML quotes what would end a flow value."""
    plain = list(value) if isinstance(value, tuple) else value
    text = yaml.safe_dump([plain], default_flow_style=True, width=10**9, sort_keys=False)
    return text.strip()[1:-1]


def _checked(document: Document, overrides: Iterable[str]) -> ExperimentFile:
    if document.data is None:
        document.data = {}
    if not isinstance(document.data, dict):
        raise DovetailError(
            f"{document.where(())}: an experiment file is a mapping with the keys dovetail, model, "
            f"data, rules, ...; this one is {describe(document.data)}"
        )
    for assignment in overrides:
        override(document, assignment)
    try:
        experiment = Experiment.model_validate(document.data)
    except ValidationError as error:
        raise _refusal(error, document) from None
    rules = [_rule(item, ("rules", i), document) for i, item in enumerate(experiment.rules)]
    return ExperimentFile(experiment, Recipe(*rules), document)


def _rule(item: RuleSpec, path: tuple[str | int, ...], document: Document) -> Rule:
    """Built piece by piece first, so that a refusal names the place of the piece at fault."""
    pieces: dict[str, dict[str, Any]] = {"match": {}}
    pieces |= {key: {key: value} for key in ("op", "type") if (value := getattr(item, key))}
    for key, selection in pieces.items():
        with at(document.where((*path, key))):
            Selector(item.match, **selection)
    for name, value in item.values().items():
        with at(document.where((*path, name))):
            one: dict[str, Any] = {name: loaded(value)}
            rule(item.match, **one)
    return item.build(document.line(path))


def _refusal(error: ValidationError, document: Document) -> DovetailError:
    """All that pydantic found, in the order of the file, one line each, with its place."""
    found = sorted(
        (document.rank(item["loc"]), _sentence(dict(item), document)) for item in error.errors()
    )
    return DovetailError("\n".join(dict.fromkeys(sentence for _, sentence in found)))


def _sentence(item: dict[str, Any], document: Document) -> str:
    loc: tuple[str | int, ...] = item["loc"]
    kind = item["type"]
    if kind in ("extra_forbidden", "missing"):
        *parent, key = loc
        place, shown = document.where(loc, key=True), ".".join(map(str, parent))
        if kind == "missing":
            text = f"the key '{key}' is missing"
            if key == "dovetail":
                text += "; the first line of an experiment file is 'dovetail: 1'"
        else:
            text = str(unknown("key", str(key), keys_under(parent)))
    else:
        place, shown = document.where(loc), ".".join(map(str, loc))
        text = problem(item)
    return f"{place}: {shown}: {text}" if shown else f"{place}: {text}"
