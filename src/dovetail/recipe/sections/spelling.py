"""Values of rules: text, or a mapping that says the same."""

from __future__ import annotations

from typing import Annotated, Any

from pydantic import BeforeValidator, WithJsonSchema

from dovetail._spelling import spell_call
from dovetail.errors import unknown
from dovetail.multipliers import multiplier
from dovetail.recipe.document import describe

__all__ = ["MultiplierText", "Spelling", "loaded"]


def _spelling(value: Any) -> Any:
    """A format as text, or as a mapping that is spelt out into that text."""
    if isinstance(value, str):
        return value
    if not isinstance(value, dict):
        raise ValueError(
            f"expected text such as int8(affine), or a mapping such as "
            f"{{format: int24, overflow: wrap}}, got {describe(value)}"
        )
    arguments = dict(value)
    name = arguments.pop("format", None)
    if not isinstance(name, str):
        raise ValueError("the mapping needs the key 'format', as in {format: int24}")
    for key, argument in arguments.items():
        if not isinstance(argument, (str, int, float)):
            raise ValueError(f"'{key}' must be text, a number or true, got {describe(argument)}")
    flags = [key for key, argument in arguments.items() if argument is True]
    named = {key: argument for key, argument in arguments.items() if argument is not True}
    return spell_call(name, *flags, **named)


Spelling = Annotated[
    str,
    BeforeValidator(_spelling),
    WithJsonSchema({"anyOf": [{"type": "string"}, {"type": "object", "required": ["format"]}]}),
]

_FILE_OPTIONS: dict[str, tuple[tuple[type, ...], str]] = {
    "file": ((str,), "text"),
    "signed": ((bool,), "true or false"),
    "bits": ((int, list), "a whole number, or a list such as [8, 4] for input and weight"),
    "function": ((str,), "text"),
    "check": ((str,), "text"),
}


def _multiplier(value: Any) -> Any:
    """A multiplier as text, or as a file with what its contents do not say."""
    if isinstance(value, str):
        return value
    if not isinstance(value, dict):
        raise ValueError(
            f"expected text such as mul8s_1KV9, or a mapping such as "
            f"{{file: table.npy, signed: false}}, got {describe(value)}"
        )
    if "file" not in value:
        raise ValueError("the mapping needs the key 'file', as in {file: table.npy}")
    for key, option in value.items():
        if key not in _FILE_OPTIONS:
            raise unknown("key", key, _FILE_OPTIONS)
        kinds, words = _FILE_OPTIONS[key]
        if type(option) not in kinds:
            raise ValueError(f"'{key}' is {words}, got {describe(option)}")
    return value


MultiplierText = Annotated[
    str | dict[str, Any],
    BeforeValidator(_multiplier),
    WithJsonSchema({"anyOf": [{"type": "string"}, {"type": "object", "required": ["file"]}]}),
]


def loaded(value: Any) -> Any:
    """A field's value, with a file's mapping turned into its multiplier.

    >>> loaded("int8")
    'int8'
    """
    if isinstance(value, dict):
        return multiplier(value["file"], **{k: v for k, v in value.items() if k != "file"})
    return value
