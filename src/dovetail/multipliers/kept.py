"""Multipliers made from the user's own data, remembered by digest for the life of the process.

Their spelling, such as ``table(sha256:91f3c5d2a7b04e68, bits=8, signed=True)``, names data that no
text can carry; within the process that made (or unpickled) them it still finds them.
"""

from __future__ import annotations

from typing import Any, TypeVar

from dovetail._spelling import parse_call
from dovetail.errors import DovetailError
from dovetail.multipliers.base import Multiplier

__all__ = ["KEPT_KINDS", "keep", "recall"]

KEPT_KINDS = ("table", "function")

_M = TypeVar("_M", bound=Multiplier)
_KEPT: dict[tuple[str, str], Multiplier] = {}


def keep(multiplier: _M) -> _M:
    """Remember ``multiplier`` under its spelling, and return it.

    >>> from dovetail.multipliers import multiplier
    >>> keep(multiplier([[0, 0], [0, 1]])).bits
    (1, 1)
    """
    kind, args, _ = parse_call(repr(multiplier))
    known = _KEPT.setdefault((kind, args[0]), multiplier)
    if known.circuit is None:  # of equal ones, keep the one that knows its gates
        _KEPT[kind, args[0]] = multiplier
    return multiplier


def recall(text: str, kind: str, args: list[Any], kwargs: dict[str, Any]) -> Multiplier:
    """The multiplier spelt ``text``, if this process has made it; else a `DovetailError`.

    >>> recall("table(sha256:0)", "table", ["sha256:0"], {})
    Traceback (most recent call last):
    dovetail.errors.DovetailError: 'table(sha256:0)' names a table that this process has not made
    """
    if len(args) != 1 or not str(args[0]).startswith("sha256:"):
        raise DovetailError(
            f"{text!r}: give a {kind} as the object itself, dv.multiplier(<array, file or "
            f"callable>); the text form is {kind}(sha256:<16 hex digits>, bits=8, signed=True)"
        )
    found = _KEPT.get((kind, args[0]))
    if found is None:
        raise DovetailError(
            f"{text!r} names a {kind} that this process has not made; make it first, "
            f"dv.multiplier(<the same array, file or callable>), or name its file here instead"
        )
    spelt = parse_call(repr(found))[2]
    if any(spelt.get(key) != value for key, value in kwargs.items()):
        raise DovetailError(f"{text!r} is another kind of operand than it was made for: {found!r}")
    return found
