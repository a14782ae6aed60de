"""Reciprocals and reciprocal square roots from a magic constant, and by integer square roots.

The first guess subtracts the number's bit pattern (halved, for the square root) from a constant;
each Newton step then roughly doubles the bits that are right.
"""

from __future__ import annotations

from dataclasses import dataclass

import torch
from torch import Tensor

from dovetail.approximations.base import Unary, check_gradient
from dovetail.approximations.functions import Function
from dovetail.approximations.reductions import limits
from dovetail.approximations.steps import Steps, intermediate
from dovetail.errors import DovetailError
from dovetail.formats import Format
from dovetail.formats import format as to_format

__all__ = ["IntegerRoot", "Newton", "magic"]

#: dtype, integer dtype, and the constants of the reciprocal and of the reciprocal square root.
_BITS: dict[str, tuple[torch.dtype, torch.dtype, int, int]] = {
    "fp32": (torch.float32, torch.int32, 0x7EF311C7, 0x5F3759DF),
    "fp16": (torch.float16, torch.int16, 0x77A8, 0x59BE),
    "bf16": (torch.bfloat16, torch.int16, 0x7EF3, 0x5F37),
}


_FP32 = to_format("fp32")


def magic(fmt: Format, root: int) -> int:
    """What the pattern of a number is subtracted from, for ``x ** (-1 / root)``.

    >>> hex(magic(_FP32, 2))
    '0x5f3759df'
    """
    _, _, *constants = _BITS[str(fmt)]
    return constants[root - 1]


@dataclass(frozen=True, repr=False)
class Newton(Unary):
    """``newton(steps, format)``: a magic constant and Newton steps, in fp32, fp16 or bf16.

    ``r (2 - x r)`` for a reciprocal, ``r (1.5 - (x / 2) r r)`` for that of a square root. The
    argument is rounded to the format first; a guess below zero is zero.

    >>> from dovetail.approximations.functions import function
    >>> four = torch.tensor([4.0], dtype=torch.float64)
    >>> [round(Newton(n).evaluate(function("rsqrt"), four).item(), 5) for n in (0, 1, 2)]
    [0.48311, 0.49915, 0.5]
    """

    steps: int = 1
    format: Format = _FP32
    grad: str = "exact"

    name = "newton"
    summary = "a magic constant, then Newton steps"
    functions = ("reciprocal", "rsqrt")

    def __post_init__(self) -> None:
        if not 0 <= self.steps <= 5:
            raise DovetailError(f"newton: the number of steps is from 0 to 5, not {self.steps}")
        if str(self.format) not in _BITS:
            raise DovetailError(
                f"newton: format={self.format} has no magic constant; those that have are "
                f"{', '.join(_BITS)}"
            )
        check_gradient(self.grad)

    def evaluate(self, function: Function, x: Tensor) -> Tensor:
        reciprocal = function.name == "reciprocal"
        steps = Steps(self.format)
        x = steps(x)
        size = torch.where(x < 0, -x, x) if reciprocal else x
        r = self._guess(size.detach(), reciprocal)
        half = steps(size * 0.5)
        for _ in range(self.steps):
            correction = 2.0 - steps(size * r) if reciprocal else 1.5 - steps(steps(half * r) * r)
            r = steps(r * steps(correction))
        y = torch.where(x < 0, -r, r) if reciprocal else r
        fixed = x.detach()
        regular = torch.isfinite(fixed) & (fixed != 0) & (reciprocal | (fixed > 0))
        return torch.where(regular, y, limits(fixed, 1 if reciprocal else 2))

    def _guess(self, x: Tensor, reciprocal: bool) -> Tensor:
        dtype, integer, *_ = _BITS[str(self.format)]
        pattern = x.to(dtype).view(integer).to(torch.int64)
        guess = magic(self.format, 1 if reciprocal else 2) - (
            pattern if reciprocal else pattern >> 1
        )
        return guess.clamp(min=0).to(integer).view(dtype).to(torch.float64)


@dataclass(frozen=True, repr=False)
class IntegerRoot(Unary):
    """``isqrt(fraction)``: reciprocal square roots by the integer square root of I-BERT.

    The argument in units of ``4**-fraction`` is rounded down to an integer (at most 2**52 - 1), the
    largest integer root of it taken, and the reciprocal of that rounded to ``format``. What is less
    than one unit has the root 0, and an infinite reciprocal.

    >>> from dovetail.approximations.functions import function
    >>> IntegerRoot(4).evaluate(function("rsqrt"), torch.tensor([2.0], dtype=torch.float64)).item()
    0.7272727272727273
    """

    fraction: int = 12
    format: Format | None = None
    grad: str = "exact"

    name = "isqrt"
    summary = "by an integer square root"
    functions = ("rsqrt",)

    def __post_init__(self) -> None:
        if not 0 <= self.fraction <= 24:
            raise DovetailError(f"isqrt: fraction is from 0 to 24 bits, not {self.fraction}")
        intermediate(self.format, self.name)
        if self.grad == "approximation":
            raise DovetailError("isqrt: integers have no derivative; leave grad at 'exact'")
        check_gradient(self.grad)

    def evaluate(self, function: Function, x: Tensor) -> Tensor:
        del function
        unit = 2.0**self.fraction
        whole = torch.floor(x * unit * unit).clamp(max=2.0**52 - 1) + 0.0  # no integer is -0
        root = torch.floor(torch.sqrt(whole))  # exact: no root of so small a square rounds up
        y = Steps(self.format)(unit / root)
        return torch.where(x.isinf() & (x > 0), torch.zeros_like(x), y)
