"""The designs of a space for one model: which there are, and the recipe of each."""

from __future__ import annotations

import itertools
import math
from collections import Counter
from collections.abc import Iterator, Mapping
from typing import Any

from torch import nn

from dovetail.emulation.plan import aliases_of, planned, resolve
from dovetail.emulation.planned import Plan
from dovetail.emulation.seen import Seen, Trace
from dovetail.errors import DovetailError
from dovetail.recipe import Recipe
from dovetail.search.space import Axis, Space, Where, _named, axes_of

__all__ = ["Design", "Grid"]

#: For every axis the index of its choice.
Design = tuple[int, ...]

_MOST_UNIFORM = 1000
_MOST_COMBINATIONS = 4096  # of the choices of one operation that are looked through


class Grid:
    """The designs of a space: every axis with one of its choices, on top of the base recipe.

    Everything is refused here that can be before anything is measured.
    """

    def __init__(
        self, model: nn.Module, base: Recipe, space: Space, found: Trace, where: Where = _named
    ) -> None:
        self.model, self.base, self.space, self.found = model, base, space, found
        self.axes: tuple[Axis, ...] = axes_of(space, model, found, where)
        self._aliases = aliases_of(model)
        self._touching = {
            place: tuple(i for i, axis in enumerate(self.axes) if seen.address in axis.ops)
            for place, seen in found.seen.items()
        }
        self._verdicts: dict[tuple[Any, ...], str | None] = {}
        self._check()

    @property
    def size(self) -> int:
        """How many designs there are, those that cannot be among them."""
        return math.prod(len(axis.choices) for axis in self.axes)

    def recipe(self, design: Design) -> Recipe:
        """The base recipe, then the rules of the choices."""
        chosen = zip(self.axes, design, strict=True)
        return self.base + Recipe(*(r for axis, choice in chosen for r in axis.rules(choice)))

    def plan(self, design: Design) -> Plan:
        """The recipe resolved; refused if it cannot be."""
        return resolve(self.model, self.recipe(design), self.found)

    def words(self, design: Design) -> dict[str, str]:
        """The choices as text, by the name of their axis."""
        pairs = zip(self.axes, design, strict=True)
        return {axis.name: axis.choices[choice].label for axis, choice in pairs}

    def written(self, words: Mapping[str, str]) -> Iterator[dict[str, Any]]:
        """The rules of the choices that ``words`` names, as an experiment file writes them."""
        for axis in self.axes:
            (choice,) = (c for c in axis.choices if c.label == words[axis.name])
            for match, op in axis.targets:
                selector = {"match": match} if op is None else {"match": match, "op": op}
                yield {**selector, **choice.written}

    def uniform(self) -> list[Design]:
        """The designs in which axes with the same choices all take the same one, in every
        combination; of very many, some, spread evenly."""
        kinds = list(dict.fromkeys(map(_labels, self.axes)))
        place = [kinds.index(_labels(axis)) for axis in self.axes]
        size = math.prod(map(len, kinds))
        count = min(size, _MOST_UNIFORM)
        designs = []
        for number in range(count):
            chosen = _digits(number * (size - 1) // max(1, count - 1), [len(k) for k in kinds])
            designs.append(self.repaired(tuple(chosen[k] for k in place)))
        return list(dict.fromkeys(design for design in designs if design is not None))

    def stages(self) -> list[Design]:
        """Every axis with its first choice, every axis with its second, and so on; an axis that has
        fewer keeps its last. Each choice is in one of them, unless it cannot be."""
        most = max(len(axis.choices) for axis in self.axes)
        designs = (tuple(min(i, len(a.choices) - 1) for a in self.axes) for i in range(most))
        return list(dict.fromkeys(d for each in designs if (d := self.repaired(each)) is not None))

    def designs(self) -> Iterator[Design]:
        """All that can be, in order."""
        ranges = (range(len(axis.choices)) for axis in self.axes)
        return (design for design in itertools.product(*ranges) if self.is_valid(design))

    def is_valid(self, design: Design) -> bool:
        """Whether the design keeps to ``distinct`` and every operation can be computed."""
        return self._is_distinct(design) and all(
            self._problem(place, design) is None for place in self._touching
        )

    def repaired(self, design: Design) -> Design | None:
        """The design itself if it can be, else one near to it that can; ``None`` if none is found.

        An operation that cannot be computed gets the nearest combination of its choices that can;
        of more values than ``distinct`` allows the most frequent ones stay.
        """
        found = self._with_few_values(list(design))
        for place in self._touching:
            if self._problem(place, found) is not None:
                found = self._mended(place, found)
        return found if self.is_valid(found) else None

    def _problem(self, place: Any, design: Design) -> str | None:
        """Why an operation cannot be computed as the design has it."""
        touching = self._touching[place]
        if not touching:
            return None
        key = (place, *(design[i] for i in touching))
        if key not in self._verdicts:
            self._verdicts[key] = self._verdict(self.found.seen[place], design, touching)
        return self._verdicts[key]

    def _verdict(self, seen: Seen, design: Design, touching: tuple[int, ...]) -> str | None:
        rules = (rule for i in touching for rule in self.axes[i].rules(design[i]))
        try:
            planned(self.base + Recipe(*rules), seen, self._aliases)
        except DovetailError as error:
            return str(error)
        return None

    def _combinations(self, place: Any, design: Design) -> Iterator[Design]:
        """The design with other choices for one operation: fewest changes first, later axes
        first, and each to the choices next in the list."""
        touching = self._touching[place]
        for changes in range(1, len(touching) + 1):
            for chosen in itertools.combinations(reversed(touching), changes):
                counts = (range(1, len(self.axes[i].choices)) for i in chosen)
                for steps in itertools.islice(itertools.product(*counts), _MOST_COMBINATIONS):
                    other = list(design)
                    for i, step in zip(chosen, steps, strict=True):
                        other[i] = (other[i] + step) % len(self.axes[i].choices)
                    yield tuple(other)

    def _mended(self, place: Any, design: Design) -> Design:
        others = itertools.islice(self._combinations(place, design), _MOST_COMBINATIONS)
        return next((d for d in others if self._problem(place, d) is None), design)

    def _values(self, name: str, design: Design) -> list[tuple[int, str]]:
        """The values of a field that a design chooses, with their axes."""
        pairs = ((i, self.axes[i].choices[choice].words(name)) for i, choice in enumerate(design))
        return [(i, value) for i, value in pairs if value is not None]

    def _is_distinct(self, design: Design) -> bool:
        limits = self.space.distinct.items()
        return all(len({v for _, v in self._values(n, design)}) <= most for n, most in limits)

    def _with_few_values(self, design: list[int]) -> Design:
        for name, most in self.space.distinct.items():
            values = self._values(name, tuple(design))
            kept = {value for value, _ in Counter(v for _, v in values).most_common(most)}
            for i, value in values:
                if value not in kept:
                    design[i] = self._nearest(i, design[i], name, kept)
        return tuple(design)

    def _nearest(self, axis: int, choice: int, name: str, kept: set[str]) -> int:
        """The choice next to this one in the list whose value is a kept one."""
        choices = self.axes[axis].choices
        allowed = [i for i, c in enumerate(choices) if c.words(name) in kept]
        return min(allowed, key=lambda i: (abs(i - choice), i), default=choice)

    def _check(self) -> None:
        """Refuse a choice that is in no design that can be."""
        for i, axis in enumerate(self.axes):
            for choice in range(len(axis.choices)):
                design = tuple(choice if k == i else 0 for k in range(len(self.axes)))
                for place, touching in self._touching.items():
                    if i in touching:
                        self._check_choice(place, i, design)
        first = next(iter(self.stages()), None) or next(self.designs(), None)
        if first is None:
            raise DovetailError("no design of the space can be: its choices exclude one another")
        self.plan(first)

    def _check_choice(self, place: Any, axis: int, design: Design) -> None:
        problem = self._problem(place, design)
        if problem is None:
            return
        others = itertools.islice(self._combinations(place, design), _MOST_COMBINATIONS)
        kept = (other for other in others if other[axis] == design[axis])
        if all(self._problem(place, other) is not None for other in kept):
            raise DovetailError(problem)


def _labels(axis: Axis) -> tuple[str, ...]:
    return tuple(choice.label for choice in axis.choices)


def _digits(number: int, bases: list[int]) -> list[int]:
    """A number written with these bases, the last digit the fastest."""
    digits = []
    for base in reversed(bases):
        number, digit = divmod(number, base)
        digits.append(digit)
    return digits[::-1]
