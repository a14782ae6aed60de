"""d-Matrix configuration files of every generation: which there are, and how each is read.

2022   transformation_rules: a list of {rule, instance, name_includes, name_excludes, config}
2023   module: {instance: Linear, input_format: "BFP[8|8]{64,-1}(SN)", ...}
2024   module: {instance: !DmxModule Linear, input_formats: {input_cast: !Format ...}, ...}
"""

from __future__ import annotations

import re
from collections.abc import Mapping
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

from dovetail.errors import DovetailError, unknown
from dovetail.recipe import yaml_source
from dovetail.recipe.dmatrix.fields import KEYS, WEIGHTS, rules_of
from dovetail.recipe.dmatrix.instances import Instance, instance
from dovetail.recipe.document import Document, describe
from dovetail.recipe.recipe import Recipe
from dovetail.recipe.rule import Rule
from dovetail.recipe.yaml_source import Dialect

__all__ = ["Configuration", "is_configuration", "load_configuration", "read_configuration"]

_DIALECT = Dialect(
    aliases=True,
    tags=frozenset({"!Format", "!Sparseness", "!ApproximationFunction", "!DmxModule"}),
)

_RULES = "transformation_rules"
_RULE_KEYS = ("rule", "instance", "name_includes", "name_excludes", "config")


@dataclass(frozen=True)
class Configuration:
    """A configuration file: its recipe, and the weight files that it names by module path."""

    recipe: Recipe
    weights: Mapping[str, str] = field(default_factory=dict)


def is_configuration(data: Any) -> bool:
    """Whether the plain data of a file is a d-Matrix configuration.

    >>> is_configuration({"fc1": {"instance": "Linear"}}), is_configuration({"dovetail": 1})
    (True, False)
    """
    if not isinstance(data, Mapping) or "dovetail" in data:
        return False
    if _RULES in data:
        return True
    parts = [value for value in data.values() if isinstance(value, Mapping)]
    return bool(parts) and len(parts) == len(data) and any(set(part) & set(KEYS) for part in parts)


def load_configuration(path: str | Path) -> Configuration:
    """The rules of a file: an experiment file of dovetail or a d-Matrix configuration."""
    from dovetail.recipe.schema import load_rules

    document = yaml_source.read(path, _DIALECT)
    if is_configuration(document.data):
        return read_configuration(document)
    return Configuration(Recipe(*load_rules(path)))


def read_configuration(document: Document) -> Configuration:
    """The rules of a d-Matrix configuration; an error names its line.

    Names are those of the torch module; a leading ``_gm.`` or ``body.``, which d-Matrix's own
    container added, is dropped. The 2022 rules may match nothing, as one file of them serves many
    models.
    """
    if _RULES in document.data:
        return Configuration(Recipe(*_by_rule(document)))
    return _by_name(document)


def _by_name(document: Document) -> Configuration:
    rules: list[Rule] = []
    weights: dict[str, str] = {}
    for name, settings in document.data.items():
        path = re.sub(r"^(?:_gm|body)\.", "", str(name))
        rules += _rules(document, (name,), settings, _literal(path), settings, optional=False)
        if settings.get(WEIGHTS):
            weights[path] = str(settings[WEIGHTS])
    return Configuration(Recipe(*rules), weights)


def _by_rule(document: Document) -> list[Rule]:
    rules: list[Rule] = []
    found = document.data[_RULES]
    if not isinstance(found, list):
        raise DovetailError(
            f"{document.where((_RULES,))}: {_RULES} is a list, not {describe(found)}"
        )
    for index, item in enumerate(found):
        path = (_RULES, index)
        if not isinstance(item, Mapping):
            raise DovetailError(
                f"{document.where(path)}: a rule is a mapping, not {describe(item)}"
            )
        for key in item:
            if key not in _RULE_KEYS:
                raise _at(document, (*path, key), unknown("key", str(key), _RULE_KEYS), key=True)
        match = _pattern(item.get("name_includes") or (), item.get("name_excludes") or ())
        settings = item.get("config") or {}
        rules += _rules(document, (*path, "config"), settings, match, item, optional=True)
    return rules


def _rules(
    document: Document,
    path: tuple[str | int, ...],
    settings: Any,
    match: str,
    holder: Mapping[str, Any],
    *,
    optional: bool,
) -> list[Rule]:
    if not isinstance(settings, Mapping):
        raise DovetailError(f"{document.where(path)}: settings are a mapping of {', '.join(KEYS)}")
    for key in settings:
        if key not in KEYS:
            raise _at(document, (*path, key), unknown("key", str(key), KEYS), key=True)
    try:
        return rules_of(
            settings, match, _instance(holder), optional=optional, source=document.line(path[:2])
        )
    except DovetailError as error:
        text = str(error)
        place = next((key for key in settings if f"{key}: " in text), None)
        raise _at(document, path if place is None else (*path, place), error) from None


def _instance(holder: Mapping[str, Any]) -> Instance | None:
    name = holder.get("instance")
    return None if name is None else instance(str(name))


def _at(
    document: Document, path: tuple[str | int, ...], error: DovetailError, *, key: bool = False
) -> DovetailError:
    place = document.where(path, key=key)
    text = str(error)
    return DovetailError(text if text.startswith(place) else f"{place}: {text}")


def _literal(path: str) -> str:
    """A pattern for one path."""
    return f"re:{re.escape(path)}" if re.search(r"[*?\[]", path) else path


def _pattern(includes: Any, excludes: Any) -> str:
    """Every part included, none excluded; d-Matrix's names began with ``body.``."""
    for words in (includes, excludes):
        if not isinstance(words, (list, tuple)):
            raise DovetailError(f"name_includes and name_excludes are lists, not {words!r}")
    needed = "".join(f"(?=(?:.*{_part(word)}))" for word in includes)
    refused = "".join(f"(?!.*{_part(word)})" for word in excludes)
    return f"re:{needed}{refused}.*" if needed or refused else "*"


def _part(word: Any) -> str:
    text = str(word)
    return rf"(?:^|\.){re.escape(text[1:])}" if text.startswith(".") else re.escape(text)
