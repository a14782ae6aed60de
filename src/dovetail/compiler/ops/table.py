"""The one table of lowerings: a small function per operator, named as FX prints it."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

__all__ = ["LOWERINGS", "lowers"]

#: ``function(builder, *arguments)`` by operator; tensors are references, results too.
LOWERINGS: dict[str, Callable[..., Any]] = {}

Function = Callable[..., Any]


def lowers(*keys: str) -> Callable[[Function], Function]:
    """Decorator: the function lowers the ATen operators ``keys``.

    >>> @lowers("no_such_op.default")
    ... def nothing(b, x):
    ...     return x
    >>> LOWERINGS.pop("aten.no_such_op.default") is nothing
    True
    """

    def register(function: Function) -> Function:
        for key in keys:
            LOWERINGS[f"aten.{key}"] = function
        return function

    return register
