"""The data of a file, and where in the file each piece of it stands."""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from dataclasses import dataclass, field
from typing import Any

from dovetail.errors import DovetailError

__all__ = ["Document", "Key", "Location", "at", "describe"]

Key = str | int
Location = tuple[Key, ...]

_LAST = (1 << 30, 0, 0)


@dataclass
class Document:
    """The data of one file, with the line and column of every key and value.

    >>> from dovetail.recipe.yaml_source import parse
    >>> doc = parse("seed: 1\\nfit: {epochs: 2}\\n", "a.yaml")
    >>> doc.data
    {'seed': 1, 'fit': {'epochs': 2}}
    >>> doc.where(("fit", "epochs"))
    'a.yaml:2:15'
    """

    name: str
    data: Any
    values: dict[Location, tuple[int, int]] = field(default_factory=dict)
    keys: dict[Location, tuple[int, int]] = field(default_factory=dict)
    overrides: dict[Location, str] = field(default_factory=dict)
    #: Which file a place is in, where several are laid over one another.
    origins: dict[Location, str] = field(default_factory=dict)

    def where(self, path: Sequence[Key], *, key: bool = False) -> str:
        """`file:line:column` of the value at `path` (of its key with `key=True`).

        A path that is not in the file is given the place of its nearest parent; one that was
        set from outside is given as the override's own text.
        """
        location = tuple(path)
        marks = {**self.values, **self.keys} if key else self.values
        while True:
            for set_at, shown in self.overrides.items():
                # At the place itself, or inside it when it did not exist before.
                if set_at == location or (
                    set_at[: len(location)] == location and location not in marks
                ):
                    return shown
            if location in marks:
                line, column = marks[location]
                return f"{self.origins.get(location, self.name)}:{line}:{column}"
            if not location:
                return self.name
            location, marks = location[:-1], self.values

    def line(self, path: Sequence[Key]) -> str:
        """`file:line` of the value at `path`: how a rule is named ever after."""
        location = tuple(path)
        if location not in self.values:
            return self.where(location)
        return f"{self.origins.get(location, self.name)}:{self.values[location][0]}"

    def rank(self, path: Sequence[Key]) -> tuple[int, int, int]:
        """Sorts places in the order of the files; what was set from outside comes last."""
        location = tuple(path)
        while location not in self.values and location:
            if location in self.overrides:
                return _LAST
            location = location[:-1]
        if location not in self.values:
            return _LAST
        names = list(dict.fromkeys(self.origins.values()))
        file = names.index(self.origins[location]) if location in self.origins else 0
        return (file, *self.values[location])

    def forget(self, location: Location) -> None:
        """The value at `location` is another now: places inside the old one mean nothing."""
        for marks in (self.values, self.keys, self.origins):
            for old in [m for m in marks if m[: len(location)] == location]:
                del marks[old]


@contextmanager
def at(place: str) -> Iterator[None]:
    """Put a place of a file before the message of any `DovetailError` raised inside.

    >>> with at("a.yaml:3:1"):
    ...     raise DovetailError("no")
    Traceback (most recent call last):
    dovetail.errors.DovetailError: a.yaml:3:1: no
    """
    try:
        yield
    except DovetailError as error:
        raise DovetailError(f"{place}: {error}") from None


def describe(value: Any) -> str:
    """What a value is, in words a message can use.

    >>> describe("eight"), describe(8), describe([]), describe(None)
    ("the text 'eight'", 'the number 8', 'a list', 'empty')
    """
    if value is None:
        return "empty"
    if isinstance(value, bool):
        return str(value).lower()
    if isinstance(value, str):
        return f"the text {value!r}"
    if isinstance(value, (int, float)):
        return f"the number {value!r}"
    return "a mapping" if isinstance(value, dict) else "a list"
