"""What a search wants: directions to go in, bounds to keep, and when one design beats another."""

from __future__ import annotations

import math
from collections.abc import Iterable, Mapping
from dataclasses import dataclass, field
from typing import TypeVar

from dovetail.errors import DovetailError, unknown
from dovetail.recipe.sections.measure import COMPARISONS, condition_of

__all__ = ["Objectives", "dominates", "undominated"]

T = TypeVar("T")
_DIRECTIONS = ("max", "min")


@dataclass(frozen=True)
class Objectives:
    """``directions`` maps names of figures to ``max`` or ``min``, ``bounds`` to conditions.

    >>> wanted = Objectives({"accuracy": "max", "energy": "min"}, {"accuracy": ">= 90%"})
    >>> wanted.losses({"accuracy": 0.95, "energy": 0.5})
    (-0.95, 0.5)
    >>> wanted.is_feasible({"accuracy": 0.85, "energy": 0.5})
    False
    """

    directions: Mapping[str, str]
    bounds: Mapping[str, str] = field(default_factory=dict)

    def __post_init__(self) -> None:
        if not isinstance(self.directions, Mapping) or not self.directions:
            raise DovetailError(
                'objectives map figures to max or min, such as {"accuracy": "max"}, '
                f"not {self.directions!r}"
            )
        for direction in self.directions.values():
            if direction not in _DIRECTIONS:
                raise unknown("direction", str(direction), _DIRECTIONS)
        for name, text in self.bounds.items():
            try:
                condition_of(text)
            except ValueError as error:
                raise DovetailError(f"constraints: {name}: {error}") from None

    @property
    def names(self) -> tuple[str, ...]:
        """Every figure that is asked for, the objectives first."""
        return tuple(dict.fromkeys((*self.directions, *self.bounds)))

    def losses(self, values: Mapping[str, float]) -> tuple[float, ...]:
        """What is to be small, one number per objective; a figure that is NaN is the worst."""
        signed = (values[n] * (-1 if d == "max" else 1) for n, d in self.directions.items())
        return tuple(math.inf if math.isnan(value) else value for value in signed)

    def violations(self, values: Mapping[str, float]) -> dict[str, float]:
        """By how much each bound is missed; not above 0 where it is met."""
        found = {}
        for name, text in self.bounds.items():
            comparison, bound = condition_of(text)
            distance = abs(values[name] - bound)
            met = COMPARISONS[comparison](values[name], bound)
            missed = math.inf if math.isnan(distance) else max(distance, math.ulp(bound))
            found[name] = -distance if met else missed
        return found

    def is_feasible(self, values: Mapping[str, float]) -> bool:
        """Whether every bound is met."""
        return all(missed <= 0 for missed in self.violations(values).values())

    def front(self, items: Mapping[T, Mapping[str, float]]) -> list[T]:
        """The feasible ones that none beats, in the order of their losses."""
        losses = {k: self.losses(v) for k, v in items.items() if self.is_feasible(v)}
        best = undominated(losses.values())
        return sorted((k for k, loss in losses.items() if loss in best), key=lambda k: losses[k])


def dominates(one: tuple[float, ...], other: tuple[float, ...]) -> bool:
    """Whether ``one`` is nowhere larger and somewhere smaller.

    >>> dominates((1, 2), (1, 3)), dominates((1, 2), (1, 2)), dominates((1, 2), (2, 1))
    (True, False, False)
    """
    return one != other and all(a <= b for a, b in zip(one, other, strict=True))


def undominated(points: Iterable[tuple[float, ...]]) -> set[tuple[float, ...]]:
    """The points that no other dominates.

    >>> sorted(undominated([(1, 3), (2, 2), (3, 3), (3, 1)]))
    [(1, 3), (2, 2), (3, 1)]
    """
    kept: list[tuple[float, ...]] = []
    for point in sorted(set(points)):  # none is dominated by one that comes later
        if not any(dominates(other, point) for other in kept):
            kept.append(point)
    return set(kept)
