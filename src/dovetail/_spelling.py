"""The one grammar for values written as text: ``name(argument, key=value, ...)``.

Formats, multipliers, accumulators, gradients and observers are all spelt this way. The text is
parsed, never evaluated. A value is an integer (decimal or ``0x...``), a float, ``True``/``False``
(also in lower case), ``None``, a quoted string, a tuple in parentheses or brackets, or a bare word;
a nested call such as ``observer=percentile(99.9)`` is kept as its text, for its own owner to parse.
"""

from __future__ import annotations

import re
from collections.abc import Collection
from typing import Any

from dovetail._reader import Reader
from dovetail.errors import DovetailError, unknown

__all__ = ["named_arguments", "parse_call", "spell_call"]

#: A word, or a ratio such as that of ``2:4(axis=0)``.
_NAME = re.compile(r"[0-9]+:[0-9]+|[A-Za-z_][\w@.:+-]*")
_TOKEN = re.compile(r"[^\s,()\[\]='\"]+")
_CLOSING = {"(": ")", "[": "]"}
_INTEGER = re.compile(r"[+-]?(0[xX][0-9a-fA-F]+|[0-9]+)\Z")
_FLOAT = re.compile(r"[+-]?([0-9]+\.[0-9]*|\.[0-9]+|[0-9]+(?=[eE]))([eE][+-]?[0-9]+)?\Z")
_RATIO = re.compile(r"[0-9]+:[0-9]+\Z")
_CONSTANTS = {"True": True, "true": True, "False": False, "false": False, "None": None}


def parse_call(text: str) -> tuple[str, list[Any], dict[str, Any]]:
    """Split ``text`` into its name, positional arguments and keyword arguments.

    A name without parentheses has neither. Errors are `DovetailError` and point at the character.

    >>> parse_call("int8")
    ('int8', [], {})
    >>> parse_call("array(mask=0xff, bits=8, signed=True)")
    ('array', [], {'mask': 255, 'bits': 8, 'signed': True})
    >>> parse_call("int8(affine, observer=percentile(99.9))")
    ('int8', ['affine'], {'observer': 'percentile(99.9)'})
    """
    return _Parser(text).call()


def spell_call(name: str, *args: Any, **kwargs: Any) -> str:
    """The text that `parse_call` reads back as the same name and arguments.

    >>> spell_call("drum", k=6, bits=8, signed=True)
    'drum(k=6, bits=8, signed=True)'
    >>> spell_call("int8")
    'int8'
    """
    parts = [_spell(value) for value in args]
    parts += [f"{key}={_spell(value)}" for key, value in kwargs.items()]
    return f"{name}({', '.join(parts)})" if parts else name


def named_arguments(
    what: str, text: str, known: Collection[str], example: str
) -> tuple[str, dict[str, Any]]:
    """The name and the arguments of a text whose arguments must all be named, and be known.

    >>> named_arguments("schedule ", "cosine(warmup=0.1)", ["warmup", "end"], "warmup=0.1")
    ('cosine', {'warmup': 0.1})
    >>> named_arguments("schedule ", "cosine(0.1)", ["warmup", "end"], "warmup=0.1")
    Traceback (most recent call last):
    dovetail.errors.DovetailError: schedule 'cosine(0.1)': name its arguments, as in ...
    """
    name, args, named = parse_call(text)
    if args:
        raise DovetailError(f"{what}'{text}': name its arguments, as in {name}({example})")
    for key in named:
        if key not in known:
            raise unknown(f"argument in '{text}':", key, known)
    return name, named


def _spell(value: Any) -> str:
    if isinstance(value, tuple):
        inner = ", ".join(_spell(item) for item in value)
        return f"({inner},)" if len(value) == 1 else f"({inner})"
    if isinstance(value, str):
        return value if _is_bare(value) else _quoted(value)
    return repr(value)


def _quoted(text: str) -> str:
    """The grammar has no escapes, so one of the two quotes must be free."""
    quote = '"' if "'" in text else "'"
    if quote in text:
        raise DovetailError(
            f"{text!r} holds both kinds of quote and cannot be written as one value"
        )
    return quote + text + quote


def _is_bare(word: str) -> bool:
    """Whether ``word`` written without quotes is read back as itself."""
    try:
        _, args, kwargs = parse_call(f"f({word})")
    except DovetailError:
        return False
    return args == [word] and not kwargs


class _Parser(Reader):
    """One pass over the text; ``at`` is the index of the next character to read."""

    def __init__(self, text: str) -> None:
        if not isinstance(text, str):
            raise DovetailError(f"expected a text such as 'int8(affine)', got {text!r}")
        self.text = text
        self.at = 0

    def take(self, character: str, expected: str) -> None:
        if not self.follows(character):
            raise self.fail(expected)
        self.at += 1

    def call(self) -> tuple[str, list[Any], dict[str, Any]]:
        self.skip()
        name = _NAME.match(self.text, self.at)
        if name is None:
            raise self.fail("a name")
        self.at = name.end()
        args: list[Any] = []
        kwargs: dict[str, Any] = {}
        if self.follows("("):
            self.at += 1
            self.arguments(args, kwargs)
        self.skip()
        if self.at != len(self.text):
            raise self.fail("the end of the text")
        return name.group(), args, kwargs

    def arguments(self, args: list[Any], kwargs: dict[str, Any]) -> None:
        """Everything up to and with the closing parenthesis; a trailing comma is allowed."""
        while not self.follows(")"):
            start = self.at
            key = re.compile(r"([A-Za-z_]\w*)\s*=").match(self.text, self.at)
            if key is not None:
                if key.group(1) in kwargs:
                    raise self.fail(f"{key.group(1)!r} only once", start)
                self.at = key.end()
                kwargs[key.group(1)] = self.value()
            elif kwargs:
                raise self.fail("key=value (a plain argument cannot follow one)", start)
            else:
                args.append(self.value())
            if not self.follows(")"):
                self.take(",", "',' or ')'")
        self.at += 1

    def value(self) -> Any:
        self.skip()
        start = self.at
        character = self.text[start : start + 1]
        if character in ("'", '"') and character:
            end = self.text.find(character, start + 1)
            if end < 0:
                raise self.fail(f"a closing {character}", len(self.text))
            self.at = end + 1
            return self.text[start + 1 : end]
        if closing := _CLOSING.get(character):
            self.at += 1
            items: list[Any] = []
            while not self.follows(closing):
                items.append(self.value())
                if not self.follows(closing):
                    self.take(",", f"',' or '{closing}'")
            self.at += 1
            return tuple(items)
        token = _TOKEN.match(self.text, start)
        if token is None:
            raise self.fail("a value")
        self.at = token.end()
        return self.classify(token.group(), start)

    def classify(self, token: str, start: int) -> Any:
        if _INTEGER.match(token):
            return int(token, 16 if "x" in token.lower() else 10)
        if _FLOAT.match(token):
            return float(token)
        if self.follows("(") and _NAME.fullmatch(token):
            self.at += 1
            self.arguments([], {})
            return self.text[start : self.at]
        if token in _CONSTANTS:
            return _CONSTANTS[token]
        if _NAME.fullmatch(token) or _RATIO.match(token):
            return token
        raise self.fail("a number, a word or a quoted string", start)
