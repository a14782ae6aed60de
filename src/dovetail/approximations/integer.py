"""The integer-only polynomials of I-BERT (Kim et al., arXiv 2101.01321): i-GELU and i-exp."""

from __future__ import annotations

import math
from dataclasses import dataclass

import torch
from torch import Tensor

from dovetail.approximations.base import Unary, check_gradient
from dovetail.approximations.functions import Function
from dovetail.approximations.steps import scaled
from dovetail.errors import DovetailError

__all__ = ["IBert", "constants"]

_GELU = (-0.2888, -1.769, 1.0)
_EXP = (0.3585, 1.353, 0.344)


@dataclass(frozen=True, repr=False)
class IBert(Unary):
    """``ibert(fraction)``: integer arithmetic on the argument in units of ``2**-fraction``.

    The argument is rounded to the nearest integer (ties to even) and limited to 2**20 in size; a
    quadratic ``a (x + b)**2 + c`` is then a sum, a square and a sum of integers, its constants
    rounded down as in the paper. Everything fits 53 bits. Exponentials above 0 shift to the left.

    >>> from dovetail.approximations.functions import function
    >>> one = torch.ones(1, dtype=torch.float64)
    >>> round(IBert().evaluate(function("gelu"), one).item(), 4)
    0.8367
    """

    fraction: int = 8
    grad: str = "exact"

    name = "ibert"
    summary = "quadratics on integers (I-BERT)"
    functions = ("gelu", "gelu_tanh", "exp")

    def __post_init__(self) -> None:
        if not 1 <= self.fraction <= 12:
            raise DovetailError(f"ibert: fraction is from 1 to 12 bits, not {self.fraction}")
        if self.grad == "approximation":
            raise DovetailError("ibert: integers have no derivative; leave grad at 'exact'")
        check_gradient(self.grad)

    def evaluate(self, function: Function, x: Tensor) -> Tensor:
        code = torch.round(x.clamp(-(2.0**20), 2.0**20) * 2.0**self.fraction) + 0.0  # no -0
        known = constants(function.name, self.fraction)
        y = _exp(code, *known) if function.name == "exp" else _gelu(code, *known)
        return torch.where(x == math.inf, x, y)


def constants(name: str, fraction: int) -> tuple[float, float, float, float]:
    """The numbers of a quadratic on integers; the last scales its result.

    Of an exponential the period, b and c; of a GELU b, c and the integer next below 1 / a.

    >>> constants("exp", 8)[:3]
    (177, 346, 62885)
    """
    scale = 2.0**-fraction
    if name == "exp":
        b, c, unit = _quadratic(_EXP, scale)
        return math.floor(math.log(2) / scale), b, c, unit
    b, c, unit = _quadratic(_GELU, scale / math.sqrt(2))
    return b, c, math.floor(1 / unit), scale * -unit / 2


def _gelu(code: Tensor, b: float, c: float, one: float, unit: float) -> Tensor:
    erf = torch.sign(code) * ((code.abs().clamp(max=-b) + b) ** 2 + c)
    return (0.0 - code * (erf + one)) * unit


def _exp(code: Tensor, period: float, b: float, c: float, unit: float) -> Tensor:
    z = torch.floor(-code / period)
    left = (code + z * period + b) ** 2 + c
    return torch.where(z > 0, torch.floor(scaled(left, -z)), scaled(left, -z)) * unit


def _quadratic(constants: tuple[float, float, float], scale: float) -> tuple[int, int, float]:
    """``b`` and ``c`` as integers, and what one unit of the result stands for."""
    a, b, c = constants
    unit = a * scale * scale
    return math.floor(b / scale), math.floor(c / unit), unit
