"""YAML with line numbers: plain data, and where in the file each piece of it stands.

The files are read by YAML 1.2's core rules, not PyYAML's 1.1 ones: `2:4` and `no` are text, `5e-4`
is a number. Anything that makes a file mean two things at once is refused: duplicate keys, aliases,
tags. Files of other projects may hold aliases and tags (see :class:`Dialect`). Nothing in a file is
ever executed.
"""

from __future__ import annotations

import re
from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import yaml

from dovetail.errors import DovetailError

Key = str | int
Location = tuple[Key, ...]

_INT = re.compile(r"[-+]?[0-9]+|0o[0-7]+|0x[0-9a-fA-F]+")
_FLOAT = re.compile(
    r"[-+]?(?:\.[0-9]+|[0-9]+(?:\.[0-9]*)?)(?:[eE][-+]?[0-9]+)?|[-+]?\.(?:inf|Inf|INF)|\.(?:nan|NaN)"
)
_BOOL = re.compile(r"true|True|TRUE|false|False|FALSE")
_NULL = re.compile(r"~|null|Null|NULL|")
_PREFIX = "tag:yaml.org,2002:"
_QUOTE_STAR = 'a value that starts with * is quoted: match: "*"'


class _Loader(yaml.SafeLoader):
    """PyYAML's parser and composer with the core schema's scalars and without aliases."""

    yaml_implicit_resolvers: dict[Any, Any] = {}  # noqa: RUF012 - as PyYAML declares it

    def compose_node(self, parent: Any, index: Any) -> Any:
        if self.check_event(yaml.AliasEvent):
            event = self.get_event()  # type: ignore[no-untyped-call]
            raise yaml.MarkedYAMLError(
                problem=f"found the alias *{event.anchor}, and aliases are not read; {_QUOTE_STAR}",
                problem_mark=event.start_mark,
            )
        return super().compose_node(parent, index)


class _AliasLoader(_Loader):
    """With aliases: each stands for a copy of what it names."""

    def compose_node(self, parent: Any, index: Any) -> Any:
        return super(_Loader, self).compose_node(parent, index)


@dataclass(frozen=True)
class Dialect:
    """What a file may hold beyond plain data: aliases, and scalars with one of ``tags``."""

    aliases: bool = False
    tags: frozenset[str] = frozenset()


_PLAIN = Dialect()
_LAST = (1 << 30, 0, 0)
#: Aliases can name one another, so that a short file holds endless data.
_MOST_VALUES = 200_000

for _name, _pattern in (("bool", _BOOL), ("int", _INT), ("float", _FLOAT), ("null", _NULL)):
    _Loader.add_implicit_resolver(_PREFIX + _name, re.compile(rf"^(?:{_pattern.pattern})$"), None)


@dataclass
class Document:
    """The data of one file, with the line and column of every key and value.

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
    dialect: Dialect = _PLAIN
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

    def override(self, assignment: str) -> None:
        """Apply one `path=value` assignment, its value read as YAML; lists count from 0.

        >>> doc = parse("rules: [{mul: a}, {mul: b}]", "a.yaml")
        >>> doc.override("rules.1.mul=exact"); doc.data["rules"]
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
        container, path = self.data, []
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
        self.overrides[location] = shown
        self.forget(location)

    def forget(self, location: Location) -> None:
        """The value at `location` is another now: places inside the old one mean nothing."""
        for marks in (self.values, self.keys, self.origins):
            for old in [m for m in marks if m[: len(location)] == location]:
                del marks[old]


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


def parse(text: str, name: str, dialect: Dialect = _PLAIN) -> Document:
    """Read YAML text; malformed text is refused with `name:line:column`.

    >>> parse("a: 1\\na: 2", "a.yaml")
    Traceback (most recent call last):
    dovetail.errors.DovetailError: a.yaml:2:1: the key 'a' is given twice (first on line 1)
    """
    document = Document(name, None, dialect=dialect)
    loader = _AliasLoader if dialect.aliases else _Loader
    try:
        node = loader(text).get_single_node()
        document.data = _plain(node, (), document) if node is not None else None
    except yaml.MarkedYAMLError as error:
        raise _malformed(error, name, text) from None
    except yaml.reader.ReaderError as error:
        line = text.count("\n", 0, error.position) + 1
        raise DovetailError(
            f"{name}:{line}: the character {error.character!r} is not allowed in YAML"
        ) from None
    except RecursionError:
        raise DovetailError(f"{name}: nested too deeply") from None
    return document


def read(path: str | Path, dialect: Dialect = _PLAIN) -> Document:
    """Read a YAML file; messages name it by the last part of its path."""
    path = Path(path)
    try:
        text = path.read_text(encoding="utf-8-sig")
    except FileNotFoundError:
        raise DovetailError(f"no file {str(path)!r}{_neighbours(path)}") from None
    except IsADirectoryError:
        raise DovetailError(f"{str(path)!r} is a folder, not a file{_neighbours(path)}") from None
    except UnicodeDecodeError as error:
        raise DovetailError(f"{path.name} is not UTF-8 text (byte {error.start})") from None
    except OSError as error:
        raise DovetailError(f"cannot read {str(path)!r}: {error.strerror}") from None
    return parse(text, path.name, dialect)


def _neighbours(path: Path) -> str:
    folder = path if path.is_dir() else path.parent
    found = sorted(p.name for p in folder.glob("*.y*ml"))[:6] if folder.is_dir() else []
    return f"; {str(folder)!r} holds {', '.join(found)}" if found else ""


def _malformed(error: yaml.MarkedYAMLError, name: str, text: str) -> DovetailError:
    mark = error.problem_mark or error.context_mark
    place = f"{name}:{mark.line + 1}:{mark.column + 1}" if mark else name
    problem = (error.problem or "malformed YAML").replace("\\t", "tab")
    line = text.splitlines()[mark.line] if mark and mark.line < len(text.splitlines()) else ""
    hint = ""
    if "\t" in line[: len(line) - len(line.lstrip())] or "tab" in problem:
        problem, hint = "a tab in the indentation", "YAML is indented with spaces"
    elif error.context and "alias" in error.context:
        problem, hint = "a bare *", _QUOTE_STAR
    elif "mapping values are not allowed" in problem:
        hint = "is a quote, or a space after a colon, missing?"
    elif error.context_mark and error.context and mark and error.context_mark.line != mark.line:
        hint = f"{error.context} that starts on line {error.context_mark.line + 1}"
    return DovetailError(f"{place}: {problem}{f' ({hint})' if hint else ''}")


def _plain(node: yaml.Node, path: Location, document: Document) -> Any:
    place = (node.start_mark.line + 1, node.start_mark.column + 1)
    document.values[path] = place
    if len(document.values) > _MOST_VALUES:
        raise DovetailError(f"{document.name}: its aliases unfold to more than a file can mean")
    where = f"{document.name}:{place[0]}:{place[1]}"
    if isinstance(node, yaml.SequenceNode) and node.tag == _PREFIX + "seq":
        return [_plain(child, (*path, i), document) for i, child in enumerate(node.value)]
    if isinstance(node, yaml.MappingNode) and node.tag == _PREFIX + "map":
        return _mapping(node, path, document)
    if isinstance(node, yaml.ScalarNode) and node.tag in document.dialect.tags:
        return str(node.value)
    if isinstance(node, yaml.ScalarNode) and node.tag.removeprefix(_PREFIX) in _SCALARS:
        try:
            return _SCALARS[node.tag.removeprefix(_PREFIX)](node.value)
        except (ValueError, KeyError):
            pass
    raise DovetailError(f"{where}: the tag {node.tag.removeprefix(_PREFIX)!r} is not read here")


def _mapping(node: yaml.MappingNode, path: Location, document: Document) -> dict[str, Any]:
    result: dict[str, Any] = {}
    for key_node, value_node in node.value:
        line, column = key_node.start_mark.line + 1, key_node.start_mark.column + 1
        if not isinstance(key_node, yaml.ScalarNode):
            raise DovetailError(f"{document.name}:{line}:{column}: a key must be one word")
        key = key_node.value
        location = (*path, key)
        if key in result:
            first = document.keys[location][0]
            raise DovetailError(
                f"{document.name}:{line}:{column}: the key '{key}' is given twice "
                f"(first on line {first})"
            )
        document.keys[location] = (line, column)
        result[key] = _plain(value_node, location, document)
    return result


def _integer(text: str) -> int:
    return int(text, 0) if text[:2] in ("0o", "0x") else int(text)


def _floating(text: str) -> float:
    return float(re.sub(r"\.(?=inf|nan)", "", text.lower()))


_SCALARS: dict[str, Any] = {
    "str": str,
    "int": _integer,
    "float": _floating,
    "bool": lambda text: {"true": True, "false": False}[text.lower()],
    "null": lambda _: None,
}
