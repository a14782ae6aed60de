"""Casts that stay one operator each in a graph that is being traced, where somebody asks for it.

Otherwise a traced cast becomes torch operations, which fuse. A compiler that has kernels of its own
for casts wants to see them whole.
"""

from __future__ import annotations

from collections.abc import Callable, Iterator
from contextlib import contextmanager
from typing import Any

__all__ = ["register_whole", "whole", "whole_casts"]

Form = Callable[..., Any]
_forms: dict[str, Form] = {}
_asked: list[bool] = []


def register_whole(kind: str, form: Form) -> None:
    """What a traced cast of that kind (``values``, ``integers``, ``ranged``) becomes."""
    _forms[kind] = form


def whole(kind: str) -> Form | None:
    """The registered form, while somebody asks for it.

    >>> whole("values") is None
    True
    """
    return _forms.get(kind) if _asked else None


@contextmanager
def whole_casts() -> Iterator[None]:
    """Inside, casts that are traced become the operators ``dovetail::cast``, ...

    >>> with whole_casts():
    ...     whole("values") is not None
    True
    """
    _asked.append(True)
    try:
        yield
    finally:
        _asked.pop()
