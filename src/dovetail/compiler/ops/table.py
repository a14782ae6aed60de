"""The one table of lowerings: a small function per operator, named as FX prints it."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

__all__ = ["ANY_TYPE", "LOWERINGS", "lowers"]

#: ``function(builder, *arguments)`` by operator; tensors are references, results too.
LOWERINGS: dict[str, Callable[..., Any]] = {}

#: Operators whose lowering only moves or casts elements: those of types that are not computed, too.
ANY_TYPE: set[str] = set()

Function = Callable[..., Any]


def lowers(*keys: str, any_type: bool = False) -> Callable[[Function], Function]:
    """Decorator: the function lowers the ATen operators ``keys``.

    >>> @lowers("no_such_op.default")
    ... def nothing(b, x):
    ...     return x
    >>> LOWERINGS.pop("aten.no_such_op.default") is nothing
    True
    """

    def register(function: Function) -> Function:
        for key in keys:
            name = key if key.startswith("prims.") else f"aten.{key}"
            LOWERINGS[name] = function
            if any_type:
                ANY_TYPE.add(name)
        return function

    return register
