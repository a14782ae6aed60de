"""YAML read with line numbers.

The files are read by YAML 1.2's core rules, not PyYAML's 1.1 ones: `2:4` and `no` are text, `5e-4`
is a number. Anything that makes a file mean two things at once is refused: duplicate keys, aliases,
tags. Files of other projects may hold aliases and tags (see :class:`Dialect`). Nothing in a file is
ever executed.
"""

from __future__ import annotations

import re
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import yaml

from dovetail.errors import DovetailError
from dovetail.recipe.document import Document, Location

__all__ = ["Dialect", "parse", "read"]

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
#: Aliases can name one another, so that a short file holds endless data.
_MOST_VALUES = 200_000

for _name, _pattern in (("bool", _BOOL), ("int", _INT), ("float", _FLOAT), ("null", _NULL)):
    _Loader.add_implicit_resolver(_PREFIX + _name, re.compile(rf"^(?:{_pattern.pattern})$"), None)


def parse(text: str, name: str, dialect: Dialect = _PLAIN) -> Document:
    """Read YAML text; malformed text is refused with `name:line:column`.

    >>> parse("a: 1\\na: 2", "a.yaml")
    Traceback (most recent call last):
    dovetail.errors.DovetailError: a.yaml:2:1: the key 'a' is given twice (first on line 1)
    """
    document = Document(name, None)
    loader = _AliasLoader if dialect.aliases else _Loader
    try:
        node = loader(text).get_single_node()
        document.data = _plain(node, (), document, dialect) if node is not None else None
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


def _plain(node: yaml.Node, path: Location, document: Document, dialect: Dialect) -> Any:
    place = (node.start_mark.line + 1, node.start_mark.column + 1)
    document.values[path] = place
    if len(document.values) > _MOST_VALUES:
        raise DovetailError(f"{document.name}: its aliases unfold to more than a file can mean")
    where = f"{document.name}:{place[0]}:{place[1]}"
    if isinstance(node, yaml.SequenceNode) and node.tag == _PREFIX + "seq":
        return [_plain(c, (*path, i), document, dialect) for i, c in enumerate(node.value)]
    if isinstance(node, yaml.MappingNode) and node.tag == _PREFIX + "map":
        return _mapping(node, path, document, dialect)
    if isinstance(node, yaml.ScalarNode) and node.tag in dialect.tags:
        return str(node.value)
    if isinstance(node, yaml.ScalarNode) and node.tag.removeprefix(_PREFIX) in _SCALARS:
        try:
            return _SCALARS[node.tag.removeprefix(_PREFIX)](node.value)
        except (ValueError, KeyError):
            pass
    raise DovetailError(f"{where}: the tag {node.tag.removeprefix(_PREFIX)!r} is not read here")


def _mapping(
    node: yaml.MappingNode, path: Location, document: Document, dialect: Dialect
) -> dict[str, Any]:
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
        result[key] = _plain(value_node, location, document, dialect)
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
