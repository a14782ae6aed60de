"""How the learning rate moves in the course of training."""

from __future__ import annotations

import math
from collections.abc import Callable
from dataclasses import dataclass

from dovetail._numbers import is_number
from dovetail._spelling import named_arguments, spell_call
from dovetail.errors import DovetailError, unknown

__all__ = ["LearningRate", "learning_rate"]

SHAPES: dict[str, Callable[[float], float]] = {
    "cosine": lambda p: 0.5 * (1 + math.cos(math.pi * p)),
    "linear": lambda p: 1 - p,
    "constant": lambda p: 1.0,
}
_DEFAULTS = {"warmup": 0.0, "end": 0.0}


@dataclass(frozen=True, repr=False)
class LearningRate:
    """The learning rate as a share of its highest, over the course of training.

    It rises linearly from 0 over the share ``warmup`` of the training, and then falls to the share
    ``end``: along half a ``cosine`` (Loshchilov and Hutter, SGDR, 2017), a ``linear`` line, or, as
    a ``constant``, not at all.

    >>> [round(LearningRate("cosine", warmup=0.5, end=0.1).at(p), 3) for p in (0, 0.25, 0.5, 1)]
    [0.0, 0.5, 1.0, 0.1]
    """

    shape: str = "cosine"
    warmup: float = 0.0
    end: float = 0.0

    def __post_init__(self) -> None:
        if self.shape not in SHAPES:
            raise unknown("schedule", self.shape, SHAPES)
        for name in _DEFAULTS:
            value = getattr(self, name)
            if not is_number(value) or not 0 <= value <= 1:
                raise DovetailError(f"{name}={value!r} of a schedule lies between 0 and 1")
            object.__setattr__(self, name, float(value))
        if self.shape == "constant" and self.end:
            raise DovetailError(f"constant(end={self.end}): a constant rate has no other end")

    def at(self, progress: float) -> float:
        """The share when ``progress`` (0 to 1) of the training is done.

        >>> LearningRate("linear").at(0.25)
        0.75
        """
        if progress < self.warmup:
            return progress / self.warmup
        rest = (progress - self.warmup) / (1 - self.warmup) if self.warmup < 1 else 1.0
        return self.end + (1 - self.end) * SHAPES[self.shape](rest)

    def __repr__(self) -> str:
        changed = {name: value for name in _DEFAULTS if (value := getattr(self, name))}
        return spell_call(self.shape, **changed)


def learning_rate(spec: str | LearningRate) -> LearningRate:
    """The schedule that a text spells; a :class:`LearningRate` is returned as it is.

    >>> learning_rate("cosine(warmup=0.1)")
    cosine(warmup=0.1)
    >>> learning_rate("cosin")
    Traceback (most recent call last):
    dovetail.errors.DovetailError: unknown schedule 'cosin'; did you mean 'cosine'? ...
    """
    if isinstance(spec, LearningRate):
        return spec
    if not isinstance(spec, str):
        raise DovetailError(
            f"schedule={spec!r}: give a name, such as 'cosine', a LearningRate, or a function from "
            "progress (0 to 1) to the share of lr"
        )
    name, named = named_arguments("schedule ", spec, _DEFAULTS, "warmup=0.1")
    return LearningRate(name, **named)
