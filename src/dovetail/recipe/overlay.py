"""Experiment files laid one over the other: the later one says what is different.

Key by key, as deep as both have mappings: what the later file gives counts. A key that it gives as
`null` is taken out. `rules` are appended, because later rules win field by field as it is;
`rules: {replace: [...]}` puts others in their place. Any other list is replaced as a whole.
"""

from __future__ import annotations

from collections.abc import Iterable
from typing import Any

from dovetail.errors import DovetailError
from dovetail.recipe.document import Document, Location, describe

__all__ = ["lay_over", "overlaid"]

_APPENDED: Location = ("rules",)


def overlaid(documents: Iterable[Document]) -> Document:
    """The first document with all the others laid over it, one after the other.

    >>> from dovetail.recipe.yaml_source import parse
    >>> base = parse("seed: 1\\nfit: {epochs: 2, lr: 0.1}\\nrules: [{input: int8}]", "base.yaml")
    >>> top = parse("fit: {lr: null, epochs: 3}\\nrules: [{mul: exact}]", "top.yaml")
    >>> both = overlaid([base, top])
    >>> both.data
    {'seed': 1, 'fit': {'epochs': 3}, 'rules': [{'input': 'int8'}, {'mul': 'exact'}]}
    >>> both.where(("fit", "epochs")), both.line(("rules", 1))
    ('top.yaml:1:25', 'top.yaml:2')
    """
    base, *others = documents
    for top in others:
        lay_over(base, top)
    return base


def lay_over(base: Document, top: Document) -> None:
    """Change `base` in place to what `top` makes of it."""
    if top.data is None:
        return
    for document in (base, top):
        if not isinstance(document.data, dict):
            raise DovetailError(
                f"{document.where(())}: files are laid over one another key by key, and this one "
                f"is {describe(document.data)}"
            )
    if not base.origins:
        base.origins = dict.fromkeys({**base.keys, **base.values}, base.name)
    _merge(base, top, ())
    base.name = f"{base.name}+{top.name}"


def _merge(base: Document, top: Document, path: Location) -> None:
    """Lay the mapping of `top` at `path` over that of `base`."""
    below, above = _at(base.data, path), _at(top.data, path)
    for key, value in above.items():
        place = (*path, key)
        if value is None:
            below.pop(key, None)
            base.forget(place)
        elif place == _APPENDED:
            _add_rules(base, top)
        elif isinstance(value, dict) and isinstance(below.get(key), dict):
            _merge(base, top, place)
        else:
            below[key] = value
            base.forget(place)
            _take_places(base, top, place, place)


def _add_rules(base: Document, top: Document) -> None:
    given, start = top.data["rules"], 0
    source = _APPENDED
    if isinstance(given, dict) and list(given) == ["replace"]:
        given, source = given["replace"], (*_APPENDED, "replace")
    elif isinstance(given, list) and isinstance(base.data.get("rules"), list):
        start = len(base.data["rules"])
    if not isinstance(given, list):
        raise DovetailError(
            f"{top.where(source)}: rules: expected a list, which is appended, or "
            f"{{replace: [...]}}, got {describe(given)}"
        )
    if start == 0:
        base.data["rules"] = []
        base.forget(_APPENDED)
        _take_place(base, top, source, _APPENDED)
    base.data["rules"] += given
    for index in range(len(given)):
        _take_places(base, top, (*source, index), (*_APPENDED, start + index))


def _take_places(base: Document, top: Document, source: Location, target: Location) -> None:
    """Where in `top` all that is at and under `source` stands, noted for `target` in `base`."""
    under = [m for m in {**top.keys, **top.values} if m[: len(source)] == source]
    for mark in under:
        _take_place(base, top, mark, (*target, *mark[len(source) :]))


def _take_place(base: Document, top: Document, source: Location, target: Location) -> None:
    for theirs, ours in ((top.values, base.values), (top.keys, base.keys)):
        if source in theirs:
            ours[target] = theirs[source]
    base.origins[target] = top.origins.get(source, top.name)


def _at(data: Any, path: Location) -> Any:
    for key in path:
        data = data[key]
    return data
