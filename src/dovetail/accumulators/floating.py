"""Registers that hold a floating-point number."""

from __future__ import annotations

from dataclasses import dataclass

import torch
from torch import Tensor

from dovetail._spelling import parse_call, spell_call
from dovetail.accumulators.base import Accumulator, check_order
from dovetail.accumulators.integer import WHEN
from dovetail.errors import DovetailError, unknown
from dovetail.formats import FloatFormat
from dovetail.formats.realise import round_values
from dovetail.formats.rounding import NEAREST_EVEN

__all__ = ["FloatAccumulator"]

_EXACT = 2**53  # integers up to here are float64 numbers
_MANTISSA = 50  # of a register, so that float64 rounded to odd has the two bits more it needs


@dataclass(frozen=True, repr=False)
class FloatAccumulator(Accumulator):
    """A register in ``format``; each exact sum that enters it is rounded once, as the format says.

    ``when="end"`` sums all products wide and rounds once.

    >>> from dovetail.formats import format
    >>> half = FloatAccumulator(format("fp16"))
    >>> half.add(torch.tensor(2048.0).double(), torch.tensor(1.0).double())
    tensor(2048., dtype=torch.float64)
    """

    format: FloatFormat
    when: str = "each"
    order: str = "sequential"
    chunk: int | None = None

    def __post_init__(self) -> None:
        fmt = self.format
        if not isinstance(fmt, FloatFormat):
            raise DovetailError(
                f"an accumulator is an integer or a floating-point register, not '{fmt}'; the "
                "nearest is 'fp16'"
            )
        if fmt.rounding.is_stochastic:
            plain = fmt.with_rounding("NearestTiesToEven")
            raise DovetailError(
                f"accumulator '{fmt}': a register rounds every sum alike, without random bits; "
                f"the nearest is '{plain}'"
            )
        if fmt.mantissa > _MANTISSA or fmt.quantum < -1000 or fmt.emax > 1000 or not fmt.zero:
            raise DovetailError(
                f"accumulator '{fmt}': a register holds zero, has at most {_MANTISSA} mantissa "
                "bits and exponents within -1000..1000; the nearest is 'fp32'"
            )
        if self.when not in WHEN:
            raise unknown("accumulator 'when'", self.when, WHEN)
        check_order(self.order, self.chunk)
        if self.when == "end" and (self.chunk is not None or self.order != "sequential"):
            raise DovetailError(
                f"accumulator '{fmt}': with 'end' all products are summed wide, in order of k, and "
                "rounded once; leave out order and chunk, or 'end'"
            )

    @property
    def spelling(self) -> str:
        name, args, kwargs = parse_call(self.format.spelling)
        words = [] if self.when == "each" else [self.when]
        return spell_call(name, *words, *args, **kwargs, **self._order_words())

    @property
    def dtype(self) -> torch.dtype:
        return torch.float64

    def holds(self, bound: int) -> bool:
        fmt = self.format
        exact = bound <= 1 << (fmt.mantissa + 1) and fmt.quantum <= 0
        return fmt.signed and exact and bound <= fmt.max

    def takes_sum(self, bound: int) -> bool:
        return self.when == "end" and bound < _EXACT

    def reduce(self, exact: Tensor) -> Tensor:
        return self._rounded(exact.double())

    def add(self, first: Tensor, second: Tensor) -> Tensor:
        return self._rounded(_sum_to_odd(first, second))

    def exceeds(self, first: Tensor, second: Tensor) -> Tensor:
        total = first + second
        return total.isfinite() & ((total > self.format.max) | (total < self.format.min))

    def result_dtype(self, bound: int) -> torch.dtype:
        del bound
        fmt = self.format
        narrow = fmt.mantissa <= 23 and fmt.emax <= 127 and fmt.quantum >= -149
        return torch.float32 if narrow else torch.float64

    def _rounded(self, x: Tensor) -> Tensor:
        if self.format == _FP32:
            return x.float().double()
        fmt = self.format
        plain = fmt.rounding == NEAREST_EVEN and fmt.signed and fmt.has_negative_zero
        if not plain or fmt.mantissa == 0:
            return round_values(x, fmt)
        y = _nearest_even(x, fmt.mantissa)
        size = y.abs()
        other = ~((size <= fmt.max) & ((size >= fmt.smallest_normal) | (x == 0)))
        if other.any():  # subnormal, beyond the range, or no number
            y[other] = round_values(x[other], fmt)
        return y


_FP32 = FloatFormat(8, 23, saturation="SatNone")


def _nearest_even(x: Tensor, mantissa: int) -> Tensor:
    """``x`` rounded to ``mantissa`` bits; the exponent is that of float64."""
    u, dropped = x.view(torch.int64), 52 - mantissa
    odd = (u >> dropped) & 1
    return (odd.add_(u).add_((1 << (dropped - 1)) - 1) & -(1 << dropped)).view(torch.float64)


def _sum_to_odd(a: Tensor, b: Tensor) -> Tensor:
    """The sum in float64, rounded to odd: rounded again to 51 bits or fewer it is right.

    (Boldo and Melquiond, "Emulation of FMA and correctly rounded sums", 2008.) Knuth's two-sum
    gives the error; where there is one and the sum's last bit is even, the odd neighbour lies on
    the error's side.
    """
    total = a + b
    shadow = total - a
    error = (a - (total - shadow)) + (b - shadow)
    inexact = error.abs() > 0  # False for the NaN that infinities leave
    if not inexact.any():
        return total
    pattern = total.view(torch.int64)
    outward = (error > 0) == (total > 0)
    odd = torch.where(pattern & 1 == 1, pattern, torch.where(outward, pattern + 1, pattern - 1))
    return torch.where(inexact, odd, pattern).view(torch.float64)
