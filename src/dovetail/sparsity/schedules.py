"""From dense to sparse in the course of training: how much is kept, when."""

from __future__ import annotations

import math
from dataclasses import dataclass

from dovetail._numbers import is_number, is_whole
from dovetail._spelling import named_arguments, spell_call
from dovetail.errors import DovetailError, unknown

__all__ = ["Schedule", "schedule"]

SHAPES = {"linear": 1, "cubic": 3}
_DEFAULTS = {"begin": 0.0, "end": 0.75, "every": 1, "initial": 1.0}


@dataclass(frozen=True, repr=False)
class Schedule:
    """The share kept falls from ``initial`` to the sparsity's own between two points of training.

    ``begin`` and ``end`` are shares of the training's steps; ``every`` is how many steps lie
    between two changes. ``cubic`` takes most weights away early, while those left can still make
    up for them: with p from 0 to 1, the density is ``final + (initial - final) * (1 - p)**3``
    (Zhu and Gupta, To Prune or Not to Prune, 2017); ``linear`` has the exponent 1.

    >>> [round(Schedule("cubic", end=1.0).density(p, 0.2), 3) for p in (0.0, 0.5, 1.0)]
    [1.0, 0.3, 0.2]
    """

    shape: str = "cubic"
    begin: float = 0.0
    end: float = 0.75
    every: int = 1
    initial: float = 1.0

    def __post_init__(self) -> None:
        if self.shape not in SHAPES:
            raise unknown("schedule", self.shape, SHAPES)
        for name in ("begin", "end", "initial"):
            value = getattr(self, name)
            if not is_number(value) or not 0 <= value <= 1:
                raise DovetailError(f"{name}={value!r} of a schedule lies between 0 and 1")
            object.__setattr__(self, name, float(value))
        if self.begin > self.end:
            raise DovetailError(f"a schedule cannot begin at {self.begin} and end at {self.end}")
        if not is_whole(self.every) or self.every < 1:
            raise DovetailError(f"every={self.every!r} of a schedule is a number of steps")

    def density(self, progress: float, final: float) -> float:
        """The share kept when ``progress`` (0 to 1) of the training is done.

        >>> Schedule("linear", begin=0.5, end=1.0).density(0.75, final=0.5)
        0.75
        """
        if progress >= self.end:
            return final
        if progress <= self.begin:
            return max(self.initial, final)
        left = 1 - (progress - self.begin) / (self.end - self.begin)
        return final + (max(self.initial, final) - final) * math.pow(left, SHAPES[self.shape])

    def __repr__(self) -> str:
        changed = {
            name: getattr(self, name)
            for name, default in _DEFAULTS.items()
            if getattr(self, name) != default
        }
        return spell_call(self.shape, **changed)


def schedule(spec: str | Schedule) -> Schedule:
    """The schedule that a text spells; a :class:`Schedule` is returned as it is.

    >>> schedule("cubic(end=0.5, every=100)")
    cubic(end=0.5, every=100)
    >>> schedule("cubbic")
    Traceback (most recent call last):
    dovetail.errors.DovetailError: unknown schedule 'cubbic'; did you mean 'cubic'? ...
    """
    if isinstance(spec, Schedule):
        return spec
    name, named = named_arguments("schedule ", spec, _DEFAULTS, "end=0.5")
    return Schedule(name, **named)
