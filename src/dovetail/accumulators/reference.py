"""The definition of accumulation: Python numbers, one after another.

Integer registers take Python integers; floating-point ones take integers or floats, whose sum is
formed exactly and rounded once by :func:`dovetail.formats.reference.round_value`. Everything faster
is tested equal to this, bit for bit.
"""

from __future__ import annotations

import math
from collections.abc import Sequence
from fractions import Fraction

import numpy as np

from dovetail.accumulators.adders import ADDERS, AdderAccumulator, call
from dovetail.accumulators.base import Accumulator
from dovetail.accumulators.floating import FloatAccumulator
from dovetail.accumulators.integer import IntAccumulator
from dovetail.formats.reference import round_value

__all__ = ["accumulate", "add"]

Number = int | float


def accumulate(products: Sequence[Number], acc: Accumulator) -> Number:
    """What the register holds after all products.

    >>> from dovetail.accumulators import accumulator
    >>> accumulate([100, 100, -100], accumulator("int8(saturate)"))
    27
    >>> [accumulate([2048, 1, 1], accumulator(acc)) for acc in ("fp16", "fp16(end)")]
    [2048.0, 2050.0]
    """
    zero: Number = 0.0 if isinstance(acc, FloatAccumulator) else 0
    chunk = max(1, len(products)) if acc.when == "end" else acc.chunk
    terms = list(products)
    if chunk is not None:
        terms = [_wide(products[i : i + chunk], zero) for i in range(0, len(products), chunk)]
    if acc.order == "tree":
        return _tree(terms, acc, zero)
    if acc.run is not None:
        runs = [terms[i : i + acc.run] for i in range(0, len(terms), acc.run)]
        terms = [_sequential(run, acc, zero) for run in runs]
    return _sequential(terms, acc, zero)


def add(acc: Accumulator, first: Number, second: Number) -> Number:
    """One addition.

    >>> from dovetail.accumulators import accumulator
    >>> add(accumulator("int8"), 100, 100), add(accumulator("fp8_e4m3"), 16.0, 0.6)
    (-56, 16.0)
    """
    if isinstance(acc, FloatAccumulator):
        total: float | Fraction = float(first) + float(second)
        if math.isfinite(total) and total != 0:
            total = Fraction(first) + Fraction(second)
        return round_value(total, acc.format)
    if isinstance(acc, AdderAccumulator):
        a, b = (np.array([_wrap(int(x), acc.bits)]) for x in (first, second))
        if acc.function is not None:
            return _wrap(int(call(acc.function, a, b)[0]), acc.bits)
        return _wrap(ADDERS[acc.name](int(a[0]), int(b[0]), acc.low), acc.bits)
    assert isinstance(acc, IntAccumulator)
    low, high = acc.range
    exact = int(first) + int(second)
    return _wrap(exact, acc.bits) if acc.overflow == "wrap" else max(low, min(high, exact))


def _wrap(x: int, bits: int) -> int:
    half = 1 << (bits - 1)
    return (x + half) % (2 * half) - half


def _wide(products: Sequence[Number], zero: Number) -> Number:
    total = zero
    for product in products:
        total = total + product
    return total


def _sequential(terms: Sequence[Number], acc: Accumulator, zero: Number) -> Number:
    register = zero
    for term in terms:
        register = add(acc, register, term)
    return register


def _tree(terms: Sequence[Number], acc: Accumulator, zero: Number) -> Number:
    level = [zero, *terms] if len(terms) == 1 else list(terms)
    while len(level) > 1:
        above = [add(acc, *pair) for pair in zip(level[::2], level[1::2], strict=False)]
        level = above + level[2 * len(above) :]
    return level[0] if level else zero
