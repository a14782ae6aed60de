"""Rounding modes, by their IEEE P3109 names."""

from __future__ import annotations

import re
from dataclasses import dataclass

from dovetail.errors import DovetailError, unknown

__all__ = ["NEAREST_EVEN", "ROUNDINGS", "SATURATIONS", "Rounding", "check_saturation"]

ROUNDINGS = (
    "NearestTiesToEven",
    "NearestTiesToAway",
    "TowardZero",
    "TowardPositive",
    "TowardNegative",
    "ToOdd",
)
SATURATIONS = ("SatFinite", "SatPropagate", "SatNone")

_STOCHASTIC = re.compile(r"Stochastic(?:\((\d+)\))?")
_DEFAULT_BITS = 24


@dataclass(frozen=True, repr=False)
class Rounding:
    """Which of the two representable neighbours of a value it becomes.

    ``NearestTiesToEven`` takes the even code at a tie, ``NearestTiesToAway`` the larger magnitude;
    ``TowardZero``, ``TowardPositive`` and ``TowardNegative`` go one way; ``ToOdd`` takes the odd
    code of the two. ``Stochastic`` takes the larger magnitude with a probability that is the
    distance from the smaller one in steps, to ``bits`` random bits (1..24): IEEE P3109's
    StochasticB, ``floor(d * 2**(bits+1)) + 2R + 1 >= 2**(bits+1)`` for the distance ``d`` and a
    uniform integer ``R`` of that many bits. It is unbiased up to ``2**-(bits+1)`` steps.

    >>> Rounding("Stochastic", 16)
    Stochastic(16)
    >>> Rounding("nearest")
    Traceback (most recent call last):
    dovetail.errors.DovetailError: unknown rounding 'nearest'; did you mean ...
    """

    name: str
    bits: int = 0

    def __post_init__(self) -> None:
        if self.name == "Stochastic":
            if not 1 <= self.bits <= 24:
                near = min(max(self.bits, 1), 24)
                raise DovetailError(
                    f"Stochastic({self.bits}): 1 to 24 random bits; the nearest is "
                    f"'Stochastic({near})'"
                )
        elif self.name not in ROUNDINGS:
            raise unknown("rounding", self.name, (*ROUNDINGS, "Stochastic(24)"))
        elif self.bits:
            raise DovetailError(f"{self.name} uses no random bits, so it takes no ({self.bits})")

    @property
    def is_stochastic(self) -> bool:
        """Whether the result depends on a seed."""
        return self.name == "Stochastic"

    def __repr__(self) -> str:
        return f"Stochastic({self.bits})" if self.is_stochastic else self.name

    __str__ = __repr__

    @staticmethod
    def parse(given: str | Rounding) -> Rounding:
        """The rounding that a text spells; ``Stochastic`` alone uses 24 random bits.

        >>> Rounding.parse("TowardZero"), Rounding.parse("Stochastic")
        (TowardZero, Stochastic(24))
        """
        if isinstance(given, Rounding):
            return given
        if match := _STOCHASTIC.fullmatch(str(given).replace(" ", "")):
            return Rounding("Stochastic", int(match[1] or _DEFAULT_BITS))
        return Rounding(str(given))


NEAREST_EVEN = Rounding("NearestTiesToEven")


def check_saturation(name: str) -> None:
    """Refuse what is no saturation mode.

    ``SatFinite``: everything beyond the largest finite value becomes it, infinities too;
    ``SatPropagate``: finite values do, infinities stay; ``SatNone``: what overflows becomes
    infinite (or NaN where the format has no infinity), unless the rounding mode never rounds that
    way (TowardZero, ToOdd, and the directed modes on one side), which gives the largest finite
    value.

    >>> check_saturation("SatAll")
    Traceback (most recent call last):
    dovetail.errors.DovetailError: unknown saturation 'SatAll'; did you mean ...
    """
    if name not in SATURATIONS:
        raise unknown("saturation", name, SATURATIONS)
