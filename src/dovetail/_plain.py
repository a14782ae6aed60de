"""Results as values that strict JSON can hold."""

from __future__ import annotations

import math
from collections.abc import Mapping
from typing import Any

__all__ = ["number", "plain"]


def plain(value: Any) -> Any:
    """``value`` with tuples as lists and non-finite numbers as text.

    >>> plain({"a": (1, float("inf"))})
    {'a': [1, 'inf']}
    """
    if isinstance(value, Mapping):
        return {str(key): plain(item) for key, item in value.items()}
    if isinstance(value, (list, tuple)):
        return [plain(item) for item in value]
    if isinstance(value, float) and not math.isfinite(value):
        return str(value)
    return value


def number(value: Any) -> float | None:
    """A number that :func:`plain` has written, read back; ``None`` stays ``None``.

    >>> number("inf"), number(2), number(None)
    (inf, 2.0, None)
    """
    return None if value is None else float(value)
