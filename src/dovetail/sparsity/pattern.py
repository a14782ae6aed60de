"""What every sparsity pattern answers, and the shares of a size that patterns keep."""

from __future__ import annotations

import math
from abc import ABC, abstractmethod
from collections.abc import Sequence
from dataclasses import dataclass
from fractions import Fraction
from typing import Any

from torch import Tensor

from dovetail._numbers import is_number
from dovetail.errors import DovetailError

__all__ = ["Pattern", "share_count", "share_of"]


@dataclass(frozen=True)
class Pattern(ABC):
    """What a mask must look like. Subclasses are frozen dataclasses.

    ``axis`` arguments are the axis that the pattern runs along where it does not fix one itself:
    the input axis of the weight.
    """

    @property
    @abstractmethod
    def call(self) -> tuple[str, tuple[Any, ...], dict[str, Any]]:
        """Name, arguments and named arguments of its canonical spelling."""

    @abstractmethod
    def mask(self, scores: Tensor, axis: int = -1, stream: int = 0) -> Tensor:
        """A bool tensor of the scores' shape, true where a weight is kept.

        ``stream`` tells the random numbers of one tensor from those of another.
        """

    def check(self, shape: Sequence[int], axis: int = -1) -> None:
        """Refuse a tensor of a shape that the pattern does not fit."""
        del shape, axis

    def kept(self, shape: Sequence[int], axis: int = -1) -> int | None:
        """How many weights of a tensor are kept, or ``None`` where chance decides."""
        del shape, axis
        return None

    def at_density(self, density: float) -> Pattern:
        """This pattern with more weights kept, for a schedule on its way to the pattern itself."""
        raise DovetailError(f"'{self}' has no density that a schedule could change (to {density})")

    @property
    def density(self) -> float | None:
        """The share of the weights that it keeps; ``None`` where the scores decide."""
        return None

    @property
    def takes_probabilities(self) -> bool:
        """Whether scores are probabilities, 0 to 1."""
        return False

    @property
    def draws(self) -> bool:
        """Whether training draws a new mask at every call."""
        return False


def share_of(share: float) -> float:
    """A share between 0 and 1; anything else is refused.

    >>> share_of(1)
    1.0
    """
    if not is_number(share) or not 0 <= share <= 1:
        raise DovetailError(f"{share!r} is no share of the weights: that lies between 0 and 1")
    return float(share)


def share_count(share: float, size: int) -> int:
    """``ceil(share * size)``, of the decimal number that ``share`` is written as.

    >>> share_count(0.1, 10)
    1
    """
    return math.ceil(Fraction(repr(float(share))) * size)
