"""One value of a file set from outside: `--set rules.1.mul=exact`."""

from __future__ import annotations

from typing import Any

from dovetail.errors import DovetailError
from dovetail.recipe.document import Document, Key, describe
from dovetail.recipe.yaml_source import parse

__all__ = ["override"]


def override(document: Document, assignment: str) -> None:
    """Apply one `path=value` assignment, its value read as YAML; lists count from 0.

    >>> doc = parse("rules: [{mul: a}, {mul: b}]", "a.yaml")
    >>> override(doc, "rules.1.mul=exact"); doc.data["rules"]
    [{'mul': 'a'}, {'mul': 'exact'}]
    >>> doc.where(("rules", 1, "mul"))
    '--set rules.1.mul=exact'
    """
    shown = f"--set {assignment}"
    path_text, equals, text = assignment.partition("=")
    keys = path_text.strip().split(".")
    if not equals or not all(keys):
        raise DovetailError(f"{shown}: write it as path=value, such as rules.1.mul=exact")
    # On one line, YAML's marks of blocks, references and tags would only get in the way of
    # such values as >=0.95 and *.
    value = text if text[:1] in tuple(">|*&!%@`") else parse(text, shown).data
    container, path = document.data, []
    for position, step in enumerate(keys):
        last = position == len(keys) - 1
        key = _step(container, step, ".".join(keys[:position]), shown)
        path.append(key)
        if last:
            container[key] = value
        elif isinstance(container, dict):
            container = container.setdefault(key, {})
        else:
            container = container[key]
    location = tuple(path)
    document.overrides[location] = shown
    document.forget(location)


def _step(container: Any, step: str, parent: str, shown: str) -> Key:
    """The key that `step` names in `container`, or the reason why it names none."""
    if isinstance(container, dict):
        return step
    if not isinstance(container, list):
        raise DovetailError(
            f"{shown}: '{parent}' is {describe(container)}, so it has no entry '{step}'"
        )
    if not step.isdecimal() or int(step) >= len(container):
        span = f"0 to {len(container) - 1}" if container else "none, it is empty"
        raise DovetailError(f"{shown}: '{parent}' has no entry '{step}'; its entries are {span}")
    return int(step)
