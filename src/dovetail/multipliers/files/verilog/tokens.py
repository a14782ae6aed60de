"""Verilog text as tokens, each with its line; and the errors that name file and line."""

from __future__ import annotations

import re
from dataclasses import dataclass

from dovetail.errors import DovetailError

__all__ = ["WIDEST", "Token", "Tokens"]

#: Bits of a vector or a literal, and repeats of a concatenation: beyond any multiplier's.
WIDEST = 1 << 12

_TOKEN = re.compile(
    r"""
    (?P<skip>\s+ | //[^\n]* | /\*.*?\*/ | \(\*(?!\s*\)).*?\*\)
      | `(?:timescale|default_nettype)[^\n]* | `(?:end)?celldefine\b | `resetall\b)
    | (?P<number>(?:\d[\d_]*)?\s*'\s*[sS]?[bBoOdDhH]\s*[0-9a-fA-FxXzZ?_]+ | \d[\d_]*)
    | (?P<name>[A-Za-z_][\w$]* | \\\S+ | \$\w+)
    | (?P<operator><<<|>>>|<<|>>|[=!]==|[=!<>]=|&&|\|\||~[&|^]|\^~|[-+*/%&|^~!<>?:=(){}\[\],;.\#@])
    """,
    re.VERBOSE | re.DOTALL,
)


@dataclass(frozen=True)
class Token:
    """A word of the source: its kind (``number``, ``name``, ``operator`` or ``end``) and line."""

    kind: str
    text: str
    line: int


class Tokens:
    """The tokens of one file, read from the front.

    >>> tokens = Tokens("assign O = ~A; // not", "inverter.v")
    >>> tokens.take("assign").line, tokens.name(), tokens.follows("=")
    (1, 'O', True)
    """

    def __init__(self, text: str, path: str) -> None:
        self.path = path
        self.at = 0
        self.tokens: list[Token] = []
        line, start = 1, 0
        while start < len(text):
            match = _TOKEN.match(text, start)
            if match is None:
                raise self.fail(line, f"cannot read {text[start : start + 20].split()[0]!r}")
            kind = match.lastgroup or ""
            if kind != "skip":
                self.tokens.append(Token(kind, match.group(), line))
            line += match.group().count("\n")
            start = match.end()
        self.tokens.append(Token("end", "the end of the file", line))

    def fail(self, line: int, message: str) -> DovetailError:
        """An error at a line of this file."""
        return DovetailError(f"{self.path}:{line}: {message}")

    @property
    def next(self) -> Token:
        """The token to be read."""
        return self.tokens[self.at]

    def follows(self, *texts: str) -> bool:
        """Whether the next token is one of these words or operators."""
        return self.next.text in texts and self.next.kind in ("name", "operator")

    def accept(self, *texts: str) -> str | None:
        """The next token's text, read, if it is one of these; else None."""
        if not self.follows(*texts):
            return None
        self.at += 1
        return self.tokens[self.at - 1].text

    def take(self, text: str) -> Token:
        """Read the word or operator that must come next."""
        if not self.follows(text):
            raise self.fail(self.next.line, f"expected '{text}', found '{self.next.text}'")
        self.at += 1
        return self.tokens[self.at - 1]

    def name(self) -> str:
        """Read an identifier."""
        if self.next.kind != "name":
            raise self.fail(self.next.line, f"expected a name, found '{self.next.text}'")
        self.at += 1
        return self.tokens[self.at - 1].text
