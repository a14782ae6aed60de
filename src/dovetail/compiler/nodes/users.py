"""Implementations that users write: C++ for one call, or maps and tasklets."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass
from typing import Any, TypeVar

from dovetail.compiler.nodes.base import TARGETS, Call
from dovetail.errors import DovetailError, unknown

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
    target: str
    first: bool
    refusal: Callable[[Call], str | None] | None

    def why_not(self, call: Call) -> str | None:
        """Why it cannot compute this call; None where it can."""
        if not self.maps and call.target != self.target:
            return f"it is written for target='{self.target}'"
        return self.refusal(call) if self.refusal else None


implementations: dict[str, dict[str, Implementation]] = {}


def implement(
    key: str,
    name: str,
    *,
    declarations: str = "",
    maps: bool = False,
    target: str = "cpu",
    first: bool = True,
    refusal: Callable[[Call], str | None] | None = None,
) -> Callable[[Function], Function]:
    """Decorator: an implementation ``name`` of the operator that FX prints as ``key``.

    The function gets a :class:`Call` and returns C++, the body of one tasklet: an operand's
    ``data`` is a pointer there, and ``offset`` elements behind it its tensor begins.
    ``declarations`` stand at the top of the generated file. With ``target="cuda"`` it is for models
    on a GPU: the host runs the body, whose pointers are addresses there, and which puts its kernels
    on ``dovetail_stream``. With ``maps=True`` the function gets a ``Body`` instead, to which it
    adds maps (``each``, ``sums``); those run on both. ``first`` puts it before dovetail's own, so
    that it is taken wherever ``refusal`` gives no reason against.

    >>> @implement("aten.mm.default", "none", refusal=lambda call: "not today")
    ... def none(call): return ""
    >>> from dovetail.compiler.nodes import NODES
    >>> NODES["aten.mm.default"].implementations
    ('none', 'aten', 'pure')
    >>> del implementations["aten.mm.default"]
    """
    if name in OWN_NAMES:
        raise DovetailError(f"'{name}' is dovetail's own implementation: choose another name")
    if target not in TARGETS:
        raise unknown("target", target, TARGETS)
    if maps and target != "cpu":
        raise DovetailError("maps run on both targets: leave target= out")

    def register(function: Function) -> Function:
        made = Implementation(function, declarations, maps, target, first, refusal)
        implementations.setdefault(key, {})[name] = made
        return function

    return register
