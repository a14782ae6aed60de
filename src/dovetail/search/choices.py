"""What stands under one key of a search space: a pattern, and the values its operations may get."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Any

from dovetail.errors import DovetailError, unknown
from dovetail.recipe.rule import FIELDS, Rule, rule
from dovetail.recipe.sections.spelling import loaded

__all__ = ["Choice", "Key", "read_choices", "read_key"]


@dataclass(frozen=True)
class Choice:
    """One value: the fields that it sets, as rules have them and as they were written, and what
    tables call it."""

    label: str
    fields: Mapping[str, Any]
    written: Mapping[str, Any]

    def words(self, name: str) -> str | None:
        """How a field of it is spelt; ``None`` if it does not set that."""
        return _spelt(self.fields[name]) if name in self.fields else None


@dataclass(frozen=True)
class Key:
    """``"conv*.mul"``: a pattern of operations, and the fields that get one value.

    Without a field every choice says itself which ones it sets.
    """

    match: str
    fields: tuple[str, ...]
    place: str

    @property
    def suffix(self) -> str:
        """What is written after the pattern."""
        return f".{'+'.join(self.fields)}" if self.fields else ""


def read_key(text: str, choices: Any, place: str) -> Key:
    """Split a key at its last dot, unless the choices are mappings of fields.

    >>> read_key("layers.0.fc.input+weight", ["int8"], "over")
    Key(match='layers.0.fc', fields=('input', 'weight'), place='over')
    >>> read_key("conv*.mull", ["exact"], "search.over")
    Traceback (most recent call last):
    dovetail.errors.DovetailError: search.over: unknown rule field 'mull'; did you mean 'mul'? ...
    """
    if not isinstance(choices, Sequence) or isinstance(choices, str) or not choices:
        raise DovetailError(
            f"{place}: '{text}' needs a list of choices, such as [exact, mul8s_1L2H@v1.1]"
        )
    if all(_is_bundle(choice) for choice in choices):
        return Key(text, (), place)
    match, dot, last = text.rpartition(".")
    names = tuple(last.split("+"))
    for name in names:
        if name not in FIELDS:
            problem = unknown("rule field", name, FIELDS)
            raise DovetailError(
                f"{place}: {problem}. A key is PATTERN.FIELD, such as conv*.mul, or a pattern "
                "alone whose choices are mappings, such as {input: int8, weight: int8}"
            )
    if not dot or not match or len(set(names)) != len(names):
        raise DovetailError(f"{place}: '{text}' is no PATTERN.FIELD, such as conv*.mul")
    return Key(match, names, place)


def read_choices(key: Key, values: Sequence[Any]) -> tuple[Choice, ...]:
    """The choices of a key, each checked as a rule's fields are.

    >>> key = read_key("conv*.mul", ["exact"], "over")
    >>> [choice.label for choice in read_choices(key, ["exact", "mul8s_1KVM"])]
    ['exact', 'mul8s_1KVM@v2022']
    """
    found: dict[str, Choice] = {}
    for value in values:
        fields = dict(value) if not key.fields else dict.fromkeys(key.fields, value)
        made: Rule = rule(
            key.match, source=key.place, **{name: loaded(v) for name, v in fields.items()}
        )
        choice = Choice(_label(key, made.fields), made.fields, fields)
        if choice.label in found:
            raise DovetailError(f"{key.place}: the choice '{choice.label}' is given twice")
        found[choice.label] = choice
    return tuple(found.values())


def _label(key: Key, fields: Mapping[str, Any]) -> str:
    if key.fields:
        return _spelt(fields[key.fields[0]])
    return ", ".join(f"{name}={_spelt(value)}" for name, value in fields.items())


def _spelt(value: Any) -> str:
    return "exact" if value is None else str(value)


def _is_bundle(choice: Any) -> bool:
    return isinstance(choice, Mapping) and bool(choice) and set(choice) <= set(FIELDS)
