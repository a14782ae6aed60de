"""Fixed point: integers times one power of two."""

from __future__ import annotations

from dataclasses import dataclass

from dovetail.errors import DovetailError
from dovetail.formats.base import ElementFormat
from dovetail.formats.rounding import NEAREST_EVEN, Rounding

__all__ = ["FixedFormat"]


@dataclass(frozen=True, repr=False)
class FixedFormat(ElementFormat):
    """``code * 2**-fraction``, for two's-complement (or unsigned) codes of ``width`` bits.

    ``symmetric`` leaves the lowest code out; ``clamp=False`` lets values grow past the codes' range
    (only their step is fixed), so that infinities stay. There is no -0. ``fraction`` may be
    negative or exceed the width.

    >>> fmt = FixedFormat(8, 4)
    >>> fmt, fmt.min, fmt.max
    (fixed(8, 4), -8.0, 7.9375)
    """

    width: int
    fraction: int = 0
    signed: bool = True
    symmetric: bool = False
    clamp: bool = True
    rounding: Rounding = NEAREST_EVEN

    def __post_init__(self) -> None:
        if not 1 <= self.width <= 32:
            near = min(max(self.width, 1), 32)
            raise DovetailError(
                f"fixed({self.width}, {self.fraction}): 1 to 32 bits; the nearest is "
                f"'fixed({near}, {self.fraction})'"
            )
        if not -64 <= self.fraction <= 128:
            near = min(max(self.fraction, -64), 128)
            raise DovetailError(
                f"fixed({self.width}, {self.fraction}): -64 to 128 fraction bits; the nearest is "
                f"'fixed({self.width}, {near})'"
            )
        if self.symmetric and not self.signed:
            raise DovetailError(f"'{self}': unsigned codes cannot be symmetric")

    @property
    def bits(self) -> int:
        """Width of a code."""
        return self.width

    @property
    def lowest(self) -> int:
        """The lowest code."""
        return (-(1 << (self.width - 1)) + self.symmetric) if self.signed else 0

    @property
    def highest(self) -> int:
        """The highest code."""
        return (1 << (self.width - self.signed)) - 1

    @property
    def quantum(self) -> int:
        """Exponent of the step between neighbours."""
        return -self.fraction

    @property
    def max(self) -> float:
        """The largest finite value."""
        return float(self.highest * 2.0**-self.fraction)

    @property
    def min(self) -> float:
        """The most negative finite value, or the smallest of an unsigned format."""
        return float(self.lowest * 2.0**-self.fraction)

    @property
    def emax(self) -> int:
        """Exponent of the largest finite value: ``floor(log2(max))``."""
        return self.highest.bit_length() - 1 - self.fraction

    @property
    def smallest_normal(self) -> float:
        """The smallest positive value of full precision."""
        return float(2.0**-self.fraction)

    @property
    def smallest_subnormal(self) -> float:
        """The smallest positive value."""
        return float(2.0**-self.fraction)

    @property
    def bounds(self) -> tuple[float, float]:
        """Beyond these values rounding to nearest overflows: half a step outside min and max."""
        if not self.clamp:
            return -float("inf"), float("inf")
        return (self.lowest - 0.5) * 2.0**-self.fraction, (self.highest + 0.5) * 2.0**-self.fraction

    @property
    def spelling(self) -> str:
        from dovetail.formats.names.spell import spell_fixed

        return spell_fixed(self)
