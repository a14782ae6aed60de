"""The numbers in an approximation's spelling that may be searched, and their bounds."""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import fields, replace
from typing import Any

from dovetail.approximations import Approximation
from dovetail.errors import DovetailError

__all__ = ["COUNTS", "tunable", "with_number"]

#: Numbers that cost hardware, with the most that an approximation takes.
COUNTS = {"segments": 4096, "entries": 65536, "degree": 8, "steps": 5}
_CLAMPS = (-32.0, -1.0)
_SHARES = (0.05, 1.25)  # of the extreme inputs, for the ends of a domain

#: Where a number stands in an approximation: the fields that lead to it.
Path = tuple[str, ...]


def tunable(
    fn: Approximation, kind: str, extremes: tuple[float, float], budget: float
) -> dict[Path, tuple[float, float]]:
    """The numbers that may be searched, by their place, each with its bounds; ints for counts. The
    two ends of a domain are places of their own.

    >>> from dovetail.approximations import approximation
    >>> tunable(approximation("pwl(8)"), "tanh", (-2.0, 4.0), 2.0)
    {('segments',): (8, 16), ('domain', 'low'): (-2.5, -0.1), ('domain', 'high'): (0.2, 5.0)}
    """
    found: dict[Path, tuple[float, float]] = {}
    for path, part, name in _numbers(fn):
        value = getattr(part, name)
        if name in COUNTS and int(value * budget) > value:
            found[(*path, name)] = value, min(COUNTS[name], int(value * budget))
        elif name == "clamp" and value is not None:
            found[(*path, name)] = _CLAMPS
        elif name == "domain" and _takes(fn, kind, (*path, name), extremes):
            for end, extreme in zip(("low", "high"), extremes, strict=True):
                if extreme < 0 if end == "low" else extreme > 0:
                    low, high = sorted(extreme * share for share in _SHARES)
                    found[(*path, name, end)] = low, high
    return {place: (low, high) for place, (low, high) in found.items() if low < high}


def _numbers(fn: Approximation, path: Path = ()) -> Iterator[tuple[Path, Approximation, str]]:
    """Every field of an approximation and its parts."""
    for f in fields(fn):  # type: ignore[arg-type]
        value = getattr(fn, f.name)
        if isinstance(value, Approximation):
            yield from _numbers(value, (*path, f.name))
        else:
            yield path, fn, f.name


def _takes(fn: Approximation, kind: str, path: Path, extremes: tuple[float, float]) -> bool:
    """Whether the function has a domain to choose."""
    if not extremes[0] < extremes[1]:
        return False
    try:
        with_number(fn, path, extremes).check(kind)
    except DovetailError:
        return False
    return True


def with_number(fn: Approximation, path: Path, value: Any) -> Approximation:
    """An approximation with one field, maybe of a part, replaced."""
    if len(path) > 1:
        value = with_number(getattr(fn, path[0]), path[1:], value)
    changed: Approximation = replace(fn, **{path[0]: value})  # type: ignore[type-var]
    return changed
