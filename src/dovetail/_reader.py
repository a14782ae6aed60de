"""What every reader of a spelling shares: one pass over the text, and errors that point at it."""

from __future__ import annotations

from dovetail.errors import DovetailError

__all__ = ["Reader"]


class Reader:
    """One pass over ``text``; ``at`` is the index of the next character to read.

    >>> print(Reader("int8(").fail("')'", 5))
    cannot read 'int8(': expected ')' at character 6, the text ends
      int8(
           ^
    """

    def __init__(self, text: str) -> None:
        self.text = text
        self.at = 0

    def fail(self, expected: str, at: int | None = None) -> DovetailError:
        """What was expected at ``at`` (here by default), and what stands there."""
        at = self.at if at is None else at
        found = f"found {self.text[at]!r}" if at < len(self.text) else "the text ends"
        return DovetailError(
            f"cannot read {self.text!r}: expected {expected} at character {at + 1}, {found}\n"
            f"  {self.text}\n  {' ' * at}^"
        )

    def skip(self) -> None:
        """Pass over white space."""
        while self.at < len(self.text) and self.text[self.at].isspace():
            self.at += 1

    def follows(self, character: str) -> bool:
        """Whether ``character`` is the next one that is no space."""
        self.skip()
        return self.text.startswith(character, self.at)
