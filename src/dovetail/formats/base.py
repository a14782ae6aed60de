"""What every number format is: a frozen value with one canonical spelling and a few facts."""

from __future__ import annotations

import math
from abc import ABC, abstractmethod
from dataclasses import dataclass
from typing import TYPE_CHECKING

from dovetail.formats.rounding import NEAREST_EVEN, Rounding

__all__ = ["BlockFormat", "ElementFormat", "Format", "Same"]


class Format(ABC):
    """Which values a tensor may take, and how it is rounded to them.

    Formats are frozen, hashable, comparable and picklable. ``repr(fmt)`` is the canonical
    spelling, and ``dv.format(repr(fmt)) == fmt``.
    """

    if TYPE_CHECKING:

        @property
        def bits(self) -> int:
            """Width of one stored element; shared scales are not counted."""

    @property
    @abstractmethod
    def spelling(self) -> str:
        """The canonical spelling, as written in a recipe."""

    @property
    def bytes_per_element(self) -> float:
        """Average storage of one element in bytes, its share of a block's scale included."""
        return self.bits / 8

    @property
    def is_static(self) -> bool:
        """Whether the format needs a range from calibration when used on activations."""
        return False

    def __repr__(self) -> str:
        return self.spelling

    __str__ = __repr__


class ElementFormat(Format):
    """A format that rounds every value by itself, to one fixed set of values.

    What is not a finite number: NaN stays NaN in the cast tensor, also where the format has no code
    for it (encoding refuses it there); infinities follow the format's saturation.
    """

    rounding: Rounding = NEAREST_EVEN

    @property
    @abstractmethod
    def max(self) -> float:
        """The largest finite value."""

    @property
    @abstractmethod
    def min(self) -> float:
        """The most negative finite value, or the smallest of an unsigned format."""

    @property
    @abstractmethod
    def emax(self) -> int:
        """Exponent of the largest finite value: ``floor(log2(max))``."""

    @property
    @abstractmethod
    def smallest_normal(self) -> float:
        """The smallest positive value of full precision."""

    @property
    @abstractmethod
    def smallest_subnormal(self) -> float:
        """The smallest positive value."""

    @property
    def emin(self) -> int:
        """Exponent of the smallest normal value."""
        return _floor_log2(self.smallest_normal)

    @property
    def has_inf(self) -> bool:
        """Whether infinities have codes."""
        return False

    @property
    def has_nan(self) -> bool:
        """Whether NaN has a code."""
        return False

    @property
    def has_negative_zero(self) -> bool:
        """Whether -0 has a code of its own; where it has not, -0 becomes +0."""
        return False

    @property
    @abstractmethod
    def bounds(self) -> tuple[float, float]:
        """Beyond these values rounding to nearest overflows: half a step outside min and max."""


class BlockFormat(Format):
    """A format whose elements share a scale in runs of ``block`` along one axis.

    The last run of an axis may be shorter. ``axis=None`` is the axis that the cast is called with.
    A run that holds NaN or an infinity becomes NaN as a whole: its scale has no value. A finite
    input never becomes infinite: where rounding up leaves the range of the tensor's dtype, the
    result is the dtype's largest finite value.
    """

    if TYPE_CHECKING:

        @property
        def block(self) -> int:
            """How many neighbours share a scale."""

        @property
        def axis(self) -> int | None:
            """The axis along which blocks run, if the format itself fixes it."""

        @property
        def scale_bits(self) -> int:
            """Width of one stored scale."""

    @property
    @abstractmethod
    def element(self) -> ElementFormat:
        """The format of an element divided by its block's scale."""

    @property
    def bits(self) -> int:
        """Width of one stored element; shared scales are not counted."""
        return self.element.bits

    @property
    def rounding(self) -> Rounding:
        """How elements are rounded."""
        return self.element.rounding

    @property
    def bytes_per_element(self) -> float:
        """Average storage of one element in bytes, its share of a block's scale included."""
        return (self.bits + self.scale_bits / self.block) / 8


@dataclass(frozen=True, repr=False)
class Same(Format):
    """No rounding at all: the tensor stays as it is (the d-Matrix name ``SAME``).

    >>> Same()
    same
    """

    @property
    def bits(self) -> int:
        """Those of float32."""
        return 32

    @property
    def spelling(self) -> str:
        return "same"


def _floor_log2(x: float) -> int:
    return math.frexp(x)[1] - 1
