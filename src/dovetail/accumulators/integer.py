"""Registers of 8 to 64 bits that wrap or saturate."""

from __future__ import annotations

from dataclasses import dataclass

import torch
from torch import Tensor

from dovetail._spelling import spell_call
from dovetail.accumulators.base import Accumulator, check_order
from dovetail.errors import DovetailError, unknown

__all__ = ["OVERFLOW", "WHEN", "IntAccumulator"]

OVERFLOW = ("wrap", "saturate")
WHEN = ("each", "end")


@dataclass(frozen=True, repr=False)
class IntAccumulator(Accumulator):
    """A two's-complement register of ``bits`` bits.

    ``overflow="wrap"`` is arithmetic modulo 2**bits. Since that is associative, when and in which
    order it wraps is the same value. ``"saturate"`` clamps each exact sum that enters the register;
    with ``when="end"`` the exact sum of all products, once, so that no order is left to choose.

    >>> IntAccumulator(8).reduce(torch.tensor([127, 128, -129]))
    tensor([ 127, -128,  127])
    >>> IntAccumulator(8, "saturate").add(torch.tensor([100]), torch.tensor([100]))
    tensor([127])
    """

    bits: int
    overflow: str = "wrap"
    when: str = "each"
    order: str = "sequential"
    chunk: int | None = None

    def __post_init__(self) -> None:
        if not 8 <= self.bits <= 64:
            near = min(max(self.bits, 8), 64)
            raise DovetailError(f"accumulator 'int{self.bits}': 8 to 64 bits; nearest 'int{near}'")
        if self.overflow not in OVERFLOW:
            raise unknown("accumulator overflow", self.overflow, OVERFLOW)
        if self.when not in WHEN:
            raise unknown("accumulator 'when'", self.when, WHEN)
        check_order(self.order, self.chunk)
        if self.overflow == "wrap":
            object.__setattr__(self, "when", "each")
        if self.overflow == "wrap" or self.when == "end":
            object.__setattr__(self, "order", "sequential")
            object.__setattr__(self, "chunk", None)

    @property
    def spelling(self) -> str:
        words = [] if self.overflow == "wrap" else [self.overflow]
        words += [] if self.when == "each" else [self.when]
        return spell_call(f"int{self.bits}", *words, **self._order_words())

    @property
    def range(self) -> tuple[int, int]:
        """The smallest and the largest value that fits."""
        half = 1 << (self.bits - 1)
        return -half, half - 1

    @property
    def dtype(self) -> torch.dtype:
        return torch.int64

    def dtype_for(self, term: int | None) -> torch.dtype:
        if self.overflow == "wrap" or term is None or term + max(term, self.range[1] + 1) >= 2**31:
            return torch.int64
        return torch.int32

    def holds(self, bound: int) -> bool:
        return bound <= self.range[1]

    def most(self, bound: int) -> int:
        return min(bound, -self.range[0])

    def takes_sum(self, bound: int) -> bool:
        del bound
        return self.overflow == "wrap" or self.when == "end"

    def reduce(self, exact: Tensor) -> Tensor:
        if self.overflow == "saturate":
            return exact.clamp(*self.range)
        spare = 64 - self.bits
        return (exact << spare) >> spare  # the low bits, sign extended

    def add(self, first: Tensor, second: Tensor) -> Tensor:
        total = first + second
        if self.overflow == "saturate" and self.bits > 62:
            low, high = self.range
            total = torch.where(
                _leaves_int64(first, second), torch.where(first < 0, low, high), total
            )
        return self.reduce(total)

    def exceeds(self, first: Tensor, second: Tensor) -> Tensor:
        total = first + second
        return _leaves_int64(first, second) | (total != total.clamp(*self.range))

    def result_dtype(self, bound: int) -> torch.dtype:
        return torch.int32 if min(bound, self.range[1]) < 2**31 else torch.int64


def _leaves_int64(first: Tensor, second: Tensor) -> Tensor:
    """Where the sum's sign differs from both operands'."""
    total = first + second
    return ((first ^ total) & (second ^ total)) < 0
