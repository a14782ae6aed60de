"""Implementations that users write: C++ for one call, or maps and tasklets."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass
from typing import Any, TypeVar

from dovetail.compiler.nodes.base import Call
from dovetail.errors import DovetailError

__all__ = ["OWN_NAMES", "Implementation", "implement", "implementations"]

#: The names of dovetail's own.
OWN_NAMES = ("aten", "eager", "native", "native-op", "pure")

Function = TypeVar("Function", bound=Callable[..., Any])


@dataclass(frozen=True)
class Implementation:
    """One of a user's: see :func:`implement`."""

    function: Callable[[Any], Any]
    declarations: str
    maps: bool
    first: bool
    refusal: Callable[[Call], str | None] | None


implementations: dict[str, dict[str, Implementation]] = {}


def implement(
    key: str,
    name: str,
    *,
    declarations: str = "",
    maps: bool = False,
    first: bool = True,
    refusal: Callable[[Call], str | None] | None = None,
) -> Callable[[Function], Function]:
    """Decorator: an implementation ``name`` of the operator that FX prints as ``key``.

    The function gets a :class:`Call` and returns C++, the body of one tasklet: an operand's
    ``data`` is a pointer there, and ``offset`` elements behind it its tensor begins.
    ``declarations`` stand at the top of the generated file. With ``maps=True`` the function gets a
    ``Body`` instead, to which it adds maps (``each``, ``sums``); those also run as CUDA. ``first``
    puts it before dovetail's own, so that it is taken wherever ``refusal`` gives no reason against.

    >>> @implement("aten.mm.default", "none", refusal=lambda call: "not today")
    ... def none(call): return ""
    >>> from dovetail.compiler.nodes import NODES
    >>> NODES["aten.mm.default"].implementations
    ('none', 'aten', 'pure')
    >>> del implementations["aten.mm.default"]
    """
    if name in OWN_NAMES:
        raise DovetailError(f"'{name}' is dovetail's own implementation: choose another name")

    def register(function: Function) -> Function:
        made = Implementation(function, declarations, maps, first, refusal)
        implementations.setdefault(key, {})[name] = made
        return function

    return register
