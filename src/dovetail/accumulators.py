"""In what width, and with what overflow, the products of one output are summed."""

from __future__ import annotations

import re
from dataclasses import dataclass

from torch import Tensor

from dovetail._spelling import parse_call
from dovetail.errors import DovetailError, unknown

__all__ = ["Accumulator", "accumulator"]

_OVERFLOW = ("wrap", "saturate")
_WHEN = ("each", "end")
_NAME = re.compile(r"int(\d+)")


@dataclass(frozen=True, repr=False)
class Accumulator:
    """A two's-complement register of ``bits`` bits into which products are added in order of k.

    ``overflow="wrap"`` is arithmetic modulo 2**bits; since addition is then associative, wrapping
    at each step and at the end are the same. ``overflow="saturate", when="end"`` clamps the exact
    sum once.

    >>> import torch
    >>> Accumulator(8).reduce(torch.tensor([127, 128, -129]))
    tensor([ 127, -128,  127])
    >>> Accumulator(8, "saturate", "end").reduce(torch.tensor([127, 128, -129]))
    tensor([ 127,  127, -128])
    """

    bits: int
    overflow: str = "wrap"
    when: str = "each"

    def __post_init__(self) -> None:
        if not 8 <= self.bits <= 64:
            near = min(max(self.bits, 8), 64)
            raise DovetailError(f"accumulator 'int{self.bits}': 8 to 64 bits; nearest 'int{near}'")
        if self.overflow not in _OVERFLOW:
            raise unknown("accumulator overflow", self.overflow, _OVERFLOW)
        if self.when not in _WHEN:
            raise unknown("accumulator 'when'", self.when, _WHEN)
        if self.overflow == "saturate" and self.when == "each":
            raise DovetailError(
                f"accumulator 'int{self.bits}(saturate)' saturates at each step, which no "
                f"realisation supports; the nearest that is: 'int{self.bits}(saturate, end)'"
            )

    def __repr__(self) -> str:
        words = () if self.overflow == "wrap" else (self.overflow, self.when)
        return f"int{self.bits}" + (f"({', '.join(words)})" if words else "")

    __str__ = __repr__

    def holds(self, bound: int) -> bool:
        """Whether every sum of magnitude up to ``bound`` fits, so that reducing changes nothing."""
        return bound < 1 << (self.bits - 1)

    def reduce(self, exact: Tensor) -> Tensor:
        """What the register holds in the end, from the exact (int64) sum of the products."""
        if self.bits == 64:
            return exact
        half = 1 << (self.bits - 1)
        if self.overflow == "saturate":
            return exact.clamp(-half, half - 1)
        spare = 64 - self.bits
        return (exact << spare) >> spare  # the low bits, sign extended


def accumulator(
    spec: str | Accumulator,
    *,
    overflow: str | None = None,
    when: str | None = None,
) -> Accumulator:
    """The accumulator that ``spec`` spells: ``"int32"``, ``"int16(saturate, end)"``.

    >>> accumulator("int24(wrap)")
    int24
    >>> accumulator("int16", overflow="saturate", when="end")
    int16(saturate, end)
    >>> accumulator("int99")
    Traceback (most recent call last):
    dovetail.errors.DovetailError: accumulator 'int99': 8 to 64 bits; nearest 'int64'
    """
    if isinstance(spec, Accumulator):
        return spec
    if not isinstance(spec, str):
        raise DovetailError(f"an accumulator is a spelling such as 'int32', not {spec!r}")
    name, args, kwargs = parse_call(spec)
    match = _NAME.fullmatch(name)
    if match is None:
        raise unknown("accumulator", name, [f"int{bits}" for bits in (8, 16, 24, 32, 48, 64)])
    fields = {"overflow": overflow, "when": when}
    for word in args:
        if word not in (*_OVERFLOW, *_WHEN):
            raise unknown(f"argument in '{spec}':", str(word), (*_OVERFLOW, *_WHEN))
        fields["overflow" if word in _OVERFLOW else "when"] = str(word)
    for key, value in kwargs.items():
        if key not in fields:
            raise unknown(f"argument in '{spec}':", key, fields)
        fields[key] = str(value)
    if (fields["overflow"] or "wrap") == "wrap" and fields["when"] in (None, *_WHEN):
        return Accumulator(int(match[1]))  # wrapping at each step and at the end are one value
    return Accumulator(int(match[1]), fields["overflow"] or "wrap", fields["when"] or "each")
