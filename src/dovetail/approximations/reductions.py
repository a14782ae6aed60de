"""How a function of every number becomes one of a short interval, and back again.

Each reduction has an interval and a ``core`` there, the part that a table, segments or a polynomial
stand for. The reduced argument is computed wide and rounded once; what puts the result together is
rounded step by step.
"""

from __future__ import annotations

import math
from abc import ABC, abstractmethod
from collections.abc import Callable
from dataclasses import dataclass

import torch
from torch import Tensor

from dovetail.approximations.steps import Steps, scaled

__all__ = ["Direct", "Exponential", "Gate", "Mantissa", "Reduction", "Turn", "limits"]

Core = Callable[[Tensor], Tensor]
_LOG2E = math.log2(math.e)


class Reduction(ABC):
    """A frozen value; ``evaluate`` computes the function in float64 from an approximated core."""

    @property
    @abstractmethod
    def interval(self) -> tuple[float, float]:
        """Where the core is needed."""

    @abstractmethod
    def core(self, t: float) -> float:
        """The core itself, of one number."""

    def weight(self, t: float) -> float:
        """By how much an error of the core counts in the function."""
        del t
        return 1.0

    @abstractmethod
    def evaluate(self, x: Tensor, core: Core, steps: Steps) -> Tensor:
        """The function of ``x``, by ``core`` of the reduced argument."""


@dataclass(frozen=True)
class Direct(Reduction):
    """The function itself between ``low`` and ``high``; beyond, what it tends to.

    A tail is a number, or ``x`` for the argument.
    """

    function: Callable[[float], float]
    low: float
    high: float
    left: float
    right: float | str

    @property
    def interval(self) -> tuple[float, float]:
        return self.low, self.high

    def core(self, t: float) -> float:
        return self.function(t)

    def evaluate(self, x: Tensor, core: Core, steps: Steps) -> Tensor:
        y = core(steps(x.clamp(self.low, self.high)))
        right = steps(x) if isinstance(self.right, str) else torch.full_like(x, self.right)
        y = torch.where(x < self.low, torch.full_like(x, self.left), y)
        return torch.where(x > self.high, right, y)


@dataclass(frozen=True)
class Gate(Reduction):
    """``gate(|x|)``, which is 1 beyond ``cut``, mirrored: ``1 - gate`` below zero, or ``-gate`` if
    ``odd``; then times ``x`` if ``times_x``.
    """

    function: Callable[[float], float]
    cut: float
    odd: bool = False
    times_x: bool = False

    @property
    def interval(self) -> tuple[float, float]:
        return 0.0, self.cut

    def core(self, t: float) -> float:
        return self.function(t)

    def weight(self, t: float) -> float:
        return t if self.times_x else 1.0

    def evaluate(self, x: Tensor, core: Core, steps: Steps) -> Tensor:
        below = x < 0
        size = torch.where(below, -x, x)
        gate = core(steps(size.clamp(max=self.cut)))
        gate = torch.where(size > self.cut, torch.ones_like(x), gate)
        y = torch.where(below, -gate if self.odd else steps(1.0 - gate), gate)
        if not self.times_x:
            return y
        return torch.where(x < -self.cut, torch.zeros_like(x), steps(x * y))


@dataclass(frozen=True)
class Exponential(Reduction):
    """``exp(x) = 2**k * 2**t`` with ``k + t = x log2(e)`` and ``0 <= t < 1``."""

    @property
    def interval(self) -> tuple[float, float]:
        return 0.0, 1.0

    def core(self, t: float) -> float:
        return math.pow(2.0, t)

    def weight(self, t: float) -> float:
        return math.pow(2.0, -t)

    def evaluate(self, x: Tensor, core: Core, steps: Steps) -> Tensor:
        y = (x * _LOG2E).clamp(-2100.0, 2100.0)
        k = torch.floor(y.detach())
        return steps(scaled(core(steps(y - k)), k))


@dataclass(frozen=True)
class Mantissa(Reduction):
    """``x ** (-1 / root)`` from ``x = t * 2**(root * k)`` with ``1 <= t < 2**root``: the reciprocal
    (1), and that of the square root (2)."""

    root: int

    @property
    def interval(self) -> tuple[float, float]:
        return 1.0, float(2**self.root)

    def core(self, t: float) -> float:
        return 1 / t if self.root == 1 else 1 / math.sqrt(t)

    def weight(self, t: float) -> float:
        return math.pow(t, 1 / self.root)

    def evaluate(self, x: Tensor, core: Core, steps: Steps) -> Tensor:
        fixed = x.detach()
        regular = (fixed != 0) & torch.isfinite(fixed)
        if self.root == 2:
            regular = regular & (fixed > 0)
        size = torch.where(regular, torch.where(x < 0, -x, x), torch.ones_like(x))
        exponent = torch.frexp(size.detach()).exponent.double()  # mantissa from 0.5 to 1
        k = torch.floor((exponent - 1) / self.root)
        y = scaled(core(steps(scaled(size, -self.root * k))), -k)
        y = steps(torch.where(x < 0, -y, y))
        return torch.where(regular, y, limits(fixed, self.root))


def limits(x: Tensor, root: int) -> Tensor:
    """``x ** (-1 / root)`` of zeros, infinities, NaN and, for a square root, of what is negative.

    >>> limits(torch.tensor([-0.0, torch.inf, -torch.inf]), 1)
    tensor([-inf, 0., -0.])
    """
    y = torch.copysign(torch.where(x == 0, math.inf, 0.0).to(x.dtype), x)
    undefined = x.isnan() if root == 1 else ~(x >= 0)
    return torch.where(undefined, math.nan, y)


@dataclass(frozen=True)
class Turn(Reduction):
    """Sine by a quarter of a wave; ``quarters`` are added to the phase first (1: cosine)."""

    quarters: int

    @property
    def interval(self) -> tuple[float, float]:
        return 0.0, 1.0

    def core(self, t: float) -> float:
        return math.sin(math.pi / 2 * t)

    def evaluate(self, x: Tensor, core: Core, steps: Steps) -> Tensor:
        turns = x * (2 / math.pi)
        whole = torch.floor(turns.detach())
        part = turns - whole
        quarter = torch.remainder(torch.remainder(whole, 4.0) + self.quarters, 4.0)
        falling = (quarter == 1) | (quarter == 3)
        y = core(steps(torch.where(falling, 1.0 - part, part)))
        return torch.where(quarter >= 2, -y, y)
