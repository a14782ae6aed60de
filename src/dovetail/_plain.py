"""Results as values that strict JSON can hold."""

from __future__ import annotations

import math
from collections.abc import Mapping
from typing import Any

__all__ = ["energy", "number", "plain"]


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


def energy(pj: float | None) -> str:
    """An energy in picojoules with the unit that suits it.

    >>> energy(17504362.0), energy(0.25), energy(None)
    ('17.5 µJ', '0.25 pJ', '–')
    """
    if pj is None:
        return "–"
    unit, size = energy_unit(pj)
    return f"{pj / size:.3g} {unit}"


def energy_unit(pj: float) -> tuple[str, float]:
    """The unit that suits an energy, and how many picojoules it has.

    >>> energy_unit(17504362.0), energy_unit(0.25)
    (('µJ', 1000000.0), ('pJ', 1.0))
    """
    for unit, size in (("J", 1e12), ("mJ", 1e9), ("µJ", 1e6), ("nJ", 1e3)):
        if abs(pj) >= size:
            return unit, size
    return "pJ", 1.0
