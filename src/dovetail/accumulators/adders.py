"""Registers whose adder is approximate: three from the literature, or any function.

An adder works on ``bits``-bit two's-complement words. The published ones split them in a high part,
added exactly, and ``low`` bits that are cheaper:

``loa``
    lower-part OR adder: the low bits are or-ed, the AND of their top bits is the carry into the
    high part (Mahdiani, Ahmadi, Fakhraie, Lucas, "Bio-inspired imprecise computational blocks",
    IEEE TCAS-I 57(4), 2010).
``truncated``
    the low bits of both operands are dropped; those of the sum are zero.
``eta``
    error-tolerant adder, type I: the low bits are xor-ed from the top down to the first place where
    both are one; that bit and all below it become one; no carry leaves them (Zhu, Goh, Zhang, Yeo,
    Kong, IEEE TVLSI 18(8), 2010).
"""

from __future__ import annotations

import hashlib
from collections.abc import Callable
from dataclasses import dataclass, field
from typing import Any

import numpy as np
import torch
from torch import Tensor

from dovetail._spelling import spell_call
from dovetail.accumulators.base import Accumulator, check_order
from dovetail.accumulators.integer import IntAccumulator
from dovetail.errors import DovetailError, unknown

__all__ = ["ADDERS", "AdderAccumulator", "call", "from_function", "recall"]


def _loa(a: Any, b: Any, low: int) -> Any:
    mask = (1 << low) - 1
    carry = ((a & b) >> (low - 1)) & 1
    return (((a >> low) + (b >> low) + carry) << low) | ((a | b) & mask)


def _truncated(a: Any, b: Any, low: int) -> Any:
    return ((a >> low) + (b >> low)) << low


def _eta(a: Any, b: Any, low: int) -> Any:
    mask = (1 << low) - 1
    both = a & b & mask
    for step in (1, 2, 4, 8, 16, 32):  # ones from the highest such place downwards
        both = both | (both >> step)
    return (((a >> low) + (b >> low)) << low) | (((a ^ b) | both) & mask)


#: ``add(a, b, low)`` on integers or arrays of them; the sum is then taken modulo 2**bits.
ADDERS: dict[str, Callable[[Any, Any, int], Any]] = {
    "loa": _loa,
    "truncated": _truncated,
    "eta": _eta,
}
_functions: dict[str, Callable[[Any, Any], Any]] = {}


@dataclass(frozen=True, repr=False)
class AdderAccumulator(Accumulator):
    """A wrapping ``bits``-bit register whose sums come from the adder ``name``.

    ``low`` is the width of the approximate part; ``digest`` tells functions apart.

    >>> AdderAccumulator("loa", 16, 4).add(torch.tensor([0b0101]), torch.tensor([0b0011]))
    tensor([7])
    """

    name: str
    bits: int
    low: int = 0
    order: str = "sequential"
    chunk: int | None = None
    digest: str = ""
    function: Callable[[Any, Any], Any] | None = field(default=None, compare=False)

    def __post_init__(self) -> None:
        check_order(self.order, self.chunk)
        register = IntAccumulator(self.bits)
        if self.bits > 62:
            raise DovetailError(f"accumulator '{self.name}': 8 to 62 bits, not {register.bits}")
        if self.function is not None:
            return
        if self.name not in ADDERS:
            raise unknown("adder", self.name, ADDERS)
        if not 1 <= self.low < self.bits:
            near = min(max(self.low, 1), self.bits - 1)
            raise DovetailError(
                f"accumulator '{self.name}(bits={self.bits}, low={self.low})': 1 to "
                f"{self.bits - 1} low bits; nearest 'low={near}'"
            )

    @property
    def spelling(self) -> str:
        if self.function is not None:
            words = {"bits": self.bits, **self._order_words()}
            return spell_call(self.name, f"sha256:{self.digest}", **words)
        return spell_call(self.name, bits=self.bits, low=self.low, **self._order_words())

    @property
    def when(self) -> str:  # type: ignore[override]
        return "each"

    @property
    def register(self) -> IntAccumulator:
        """The register without the adder."""
        return IntAccumulator(self.bits)

    @property
    def dtype(self) -> torch.dtype:
        return torch.int64

    def holds(self, bound: int) -> bool:
        del bound
        return False

    def most(self, bound: int) -> int:
        del bound
        return -self.register.range[0]

    def takes_sum(self, bound: int) -> bool:
        del bound
        return False

    def reduce(self, exact: Tensor) -> Tensor:
        del exact
        raise DovetailError(f"accumulator '{self}' does not follow from the exact sum")

    def add(self, first: Tensor, second: Tensor) -> Tensor:
        first, second = (self.register.reduce(x) for x in (first, second))
        if self.function is None:
            return self.register.reduce(ADDERS[self.name](first, second, self.low))
        first, second = torch.broadcast_tensors(first, second)
        total = call(self.function, first.cpu().numpy(), second.cpu().numpy())
        return self.register.reduce(torch.from_numpy(total).to(first.device))

    def exceeds(self, first: Tensor, second: Tensor) -> Tensor:
        return self.register.exceeds(first, second)

    def result_dtype(self, bound: int) -> torch.dtype:
        del bound
        return self.register.result_dtype(self.register.range[1])

    def __setstate__(self, state: dict[str, Any]) -> None:
        self.__dict__.update(state)
        if self.function is not None:
            _functions.setdefault(self.digest, self.function)


def call(function: Callable[[Any, Any], Any], first: Any, second: Any) -> Any:
    """``function`` on two int64 arrays of one shape; refused unless it returns integers like them.

    >>> call(lambda s, p: s | p, np.array([1, 4]), np.array([2, 4]))
    array([3, 4])
    """
    total = np.asarray(function(first.copy(), second.copy()))
    if total.dtype.kind not in "iu" or total.shape != first.shape:
        raise DovetailError(
            f"the adder {getattr(function, '__name__', function)!r} returned {total.dtype} of "
            f"shape {list(total.shape)} for two int64 arrays of shape {list(first.shape)}; it "
            "returns one integer for each pair (np.vectorize makes it so)"
        )
    return total.astype(np.int64)


def from_function(
    function: Callable[[Any, Any], Any], bits: int, order: str, chunk: int | None
) -> AdderAccumulator:
    """The accumulator whose adder is ``function(register, product)`` on int64 arrays.

    Its digest is made of the width and of the sums of 4096 fixed pairs.

    >>> from_function(lambda s, p: s | p, 16, "sequential", None).bits
    16
    """
    half = IntAccumulator(bits).range[1]
    first, second = np.random.default_rng(0).integers(-half - 1, half, (2, 4096), endpoint=True)
    sums = call(function, first, second).astype("<i8").tobytes()
    digest = hashlib.sha256(f"{bits} ".encode() + sums).hexdigest()[:16]
    _functions.setdefault(digest, function)
    return AdderAccumulator("function", bits, 0, order, chunk, digest, _functions[digest])


def recall(name: str, bits: int, order: str, chunk: int | None) -> AdderAccumulator:
    """The accumulator of a function that this process has made, by ``sha256:...``.

    >>> recall("sha256:0", 16, "sequential", None)
    Traceback (most recent call last):
    dovetail.errors.DovetailError: 'function(sha256:0)' names an adder that this process has not ...
    """
    digest = name.removeprefix("sha256:")
    if digest not in _functions:
        raise DovetailError(
            f"'function({name})' names an adder that this process has not made; make it first: "
            "dv.accumulator(<the same callable>, bits=16)"
        )
    return AdderAccumulator("function", bits, 0, order, chunk, digest, _functions[digest])
