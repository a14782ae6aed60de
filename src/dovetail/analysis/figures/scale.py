"""Axes: where round numbers lie, and where on the paper a value does."""

from __future__ import annotations

import itertools
import math
from dataclasses import dataclass

__all__ = ["Scale", "labelled", "short", "ticks"]


@dataclass(frozen=True)
class Scale:
    """Values from `low` to `high` on pixels from `start` to `end`.

    >>> Scale(0, 10, 100, 200)(5)
    150.0
    """

    low: float
    high: float
    start: float
    end: float

    def __call__(self, value: float) -> float:
        span = (self.high - self.low) or 1.0
        return self.start + (self.end - self.start) * (value - self.low) / span


def ticks(low: float, high: float, most: int = 6) -> list[float]:
    """Round numbers from `low` to `high`, at most `most` of them, 1, 2 or 5 apart.

    >>> ticks(0.13, 0.87), ticks(0, 100, 3)
    ([0.2, 0.4, 0.6, 0.8], [0.0, 50.0, 100.0])
    """
    span = high - low
    if not span > 0 or not math.isfinite(span):
        return [low]
    exponent = math.floor(math.log10(span / most))
    while True:
        for digit in (1, 2, 5):
            step = digit * 10.0**exponent
            first, last = math.ceil(low / step - 1e-9), math.floor(high / step + 1e-9)
            if last - first < most:
                return [round(k * step, max(0, -exponent)) for k in range(first, last + 1)]
        exponent += 1


def labelled(low: float, high: float, most: int = 6) -> list[tuple[float, str]]:
    """Ticks with their labels, which have as many digits as it takes to tell neighbours apart.

    >>> [label for _, label in labelled(0.9874, 0.9903, 6)]
    ['0.9875', '0.988', '0.9885', '0.989', '0.9895', '0.99']
    """
    found = ticks(low, high, most)
    step = min((b - a for a, b in itertools.pairwise(found)), default=0.0)
    largest = max(map(abs, found))
    digits = 3
    if step > 0:
        digits = max(3, 1 + math.floor(math.log10(largest)) - math.floor(math.log10(step * 1.001)))
    return [(value, short(value, digits)) for value in found]


def short(value: float, digits: int = 3) -> str:
    """A number in few letters, with at most so many digits that count.

    >>> short(1234567), short(0.00012), short(-3.0), short(0.12345)
    ('1.23M', '1.2e-04', '−3', '0.123')
    """
    size = abs(value)
    for unit, letter in ((1e9, "G"), (1e6, "M"), (1e3, "k")):
        if unit * 10 <= size or (size >= unit and letter != "k"):
            return f"{value / unit:.{digits}g}{letter}".replace("-", "−")
    if 0 < size < 1e-3:
        return f"{'−' if value < 0 else ''}{size:.{digits - 1 if digits > 3 else 1}e}"
    text = f"{value:.{digits}g}" if size < 10**digits else f"{value:.0f}"
    return text.replace("-", "−")
