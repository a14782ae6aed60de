"""Which operations of a model a rule speaks of."""

from __future__ import annotations

import fnmatch
import re
from dataclasses import dataclass, field
from functools import cached_property

from dovetail.errors import DovetailError, unknown
from dovetail.kinds import GROUPS, KINDS, kinds_of

__all__ = ["OpAddress", "Selector"]


@dataclass(frozen=True)
class OpAddress:
    """Where an operation is called: the module's path, the op's kind, its index when repeated.

    ``key`` is how tables and errors print it: the path alone for the one operation that a module
    such as ``nn.Linear`` is there for, else ``path:kind_index``; the root prints as ``.``.

    >>> str(OpAddress("encoder.attn", "matmul", 1, ("Attention", "Module")))
    'encoder.attn:matmul_1'
    """

    path: str
    kind: str
    index: int | None = None
    types: tuple[str, ...] = field(default=(), compare=False)
    bare: bool = field(default=False, compare=False)

    @property
    def key(self) -> str:
        path = self.path or "."
        if self.bare:
            return path
        return f"{path}:{self.kind}" + ("" if self.index is None else f"_{self.index}")

    def __str__(self) -> str:
        return self.key

    @property
    def spellings(self) -> tuple[str, ...]:
        """Every text a pattern may match: the path, ``path:kind`` and ``path:kind_index``.

        The root's path is empty, and ``.`` as well.
        """
        whole = f"{self.path}:{self.kind}"
        names = [self.path, whole, self.key]
        if not self.path:
            names += [".", f".:{self.kind}"]
        return tuple(dict.fromkeys(names))


@dataclass(frozen=True)
class Selector:
    """A glob on the path (``*`` crosses dots; ``re:`` for a regular expression), and op and type.

    All that are given must match. ``op`` is one or several kinds or groups of them, separated by
    spaces, or ``*`` for every kind; without it a selector speaks of the products alone (``linear``,
    ``conv``, ...), unless its pattern names the kind (``"*.attn:softmax"``). ``type`` is a module
    class name, matched against the class and its bases.

    >>> Selector("layers.*", op="linear").matches(OpAddress("layers.0.fc", "linear"))
    True
    """

    match: str = "*"
    op: str | None = None
    type: str | None = None

    def __post_init__(self) -> None:
        if self.op is not None and not isinstance(self.op, str):
            raise DovetailError(f"op={self.op!r} is not a text such as 'linear matmul'")
        for word in (self.op or "").split():
            if not kinds_of(word):
                raise unknown("op", word, (*KINDS, *GROUPS, "*"))
        if self.op is not None and not self.op.split():
            raise DovetailError("op is a kind of operation such as 'conv', not an empty text")
        try:
            self._pattern.pattern  # noqa: B018 - compiles, to refuse a bad expression here
        except re.error as error:
            raise DovetailError(f"match '{self.match}' is no regular expression: {error}") from None

    @cached_property
    def _pattern(self) -> re.Pattern[str]:
        if self.match.startswith("re:"):
            return re.compile(self.match[3:])
        return re.compile(fnmatch.translate(self.match))

    @cached_property
    def kinds(self) -> frozenset[str]:
        """The kinds of operation that this selector speaks of."""
        named = ":" in self.match.removeprefix("re:")
        words = (self.op or ("*" if named else "product")).split()
        return frozenset().union(*map(kinds_of, words))

    def matches(self, op: OpAddress) -> bool:
        """Whether this selector speaks of ``op``."""
        if op.kind not in self.kinds:
            return False
        if self.type is not None and self.type not in op.types:
            return False
        return any(self._pattern.fullmatch(name) for name in op.spellings)

    def __str__(self) -> str:
        parts = [f"'{self.match}'"]
        parts += [f"op={self.op}"] if self.op else []
        parts += [f"type={self.type}"] if self.type else []
        return " ".join(parts)
