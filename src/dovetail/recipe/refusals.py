"""What pydantic found wrong in a file, said in the words of the file."""

from __future__ import annotations

from typing import Any

from dovetail.errors import unknown
from dovetail.recipe.document import describe

__all__ = ["problem"]

_EXPECTED = {
    "int": "a whole number",
    "float": "a number",
    "bool": "true or false",
    "string": "text",
    "list": "a list",
    "sequence": "a list",
    "is": "a list",
    "tuple": "a list",
    "model": "a mapping such as {key: value}",
    "dict": "a mapping such as {key: value}",
}


def problem(item: dict[str, Any]) -> str:
    """One sentence about one of the errors of a ``ValidationError``, place and key left out.

    >>> problem({"type": "greater_than_equal", "ctx": {"ge": 1}, "input": 0})
    'must be at least 1, got the number 0'
    """
    kind, context, given = item["type"], item.get("ctx", {}), describe(item["input"])
    if kind == "value_error":
        return str(context["error"])
    if kind == "literal_error":
        choices = context["expected"].replace("'", "").replace(" or ", ", ").split(", ")
        if isinstance(item["input"], str) and item["input"] not in choices:
            return str(unknown("value", item["input"], choices))
        return f"expected {' or '.join(choices)}, got {given}"
    if kind in ("greater_than", "greater_than_equal"):
        words = f"more than {context['gt']}" if "gt" in context else f"at least {context['ge']}"
        return f"must be {words}, got {given}"
    if kind in ("too_short", "string_too_short"):
        return "must not be empty"
    if kind == "string_pattern_mismatch":
        return f"expected 'package.module:function', got {given}"
    stem = kind.split("_")[0]
    return f"expected {_EXPECTED[stem]}, got {given}" if stem in _EXPECTED else str(item["msg"])
