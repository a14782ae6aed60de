"""Which part of what was seen a range covers: a criterion chooses it from a sample.

A range that gives up rare, large values has finer steps for all others. All of these know the
extremes ``low..high`` and never go beyond them.
"""

from __future__ import annotations

from abc import ABC, abstractmethod
from dataclasses import dataclass, replace

import torch
from torch import Tensor

from dovetail.errors import DovetailError
from dovetail.formats.integer import IntFormat
from dovetail.formats.observers.base import Range
from dovetail.formats.observers.sample import Sample
from dovetail.formats.quantization import dequantize, quantize, scale_zero_point
from dovetail.formats.rounding import NEAREST_EVEN

__all__ = ["Criterion", "LeastError", "Percentile"]

#: Of the extremes: 64/64, 63/64, ..., 2/64.
_FRACTIONS = tuple(k / 64 for k in range(64, 1, -1))


class Criterion(ABC):
    """Chooses the range of each row of a sample."""

    @abstractmethod
    def choose(self, sample: Sample, fmt: IntFormat, /) -> Range:
        """The range to cover with the codes of ``fmt``, float32 [rows]."""


@dataclass(frozen=True)
class Percentile(Criterion):
    """The central ``percent`` of the values, cut off by magnitude, equally on both sides.

    The range ends at the smallest magnitude that so many values do not exceed.

    >>> seen = Sample.of(torch.arange(1.0, 101.0)[None])
    >>> Percentile(90.0).choose(seen, IntFormat(8))
    (tensor([1.]), tensor([90.]))
    """

    percent: float = 99.99

    def __post_init__(self) -> None:
        if not 0.0 < self.percent <= 100.0:
            raise DovetailError(f"percentile({self.percent}): the percentage lies in (0, 100]")

    def choose(self, sample: Sample, _fmt: IntFormat, /) -> Range:
        edges, order = sample.edges.sort(1)
        seen = sample.counts.gather(1, order).cumsum(1)
        wanted = self.percent / 100.0 * seen[:, -1:]
        place = (seen < wanted).sum(1, keepdim=True).clamp(max=edges.shape[1] - 1)
        edge = edges.gather(1, place).squeeze(1).float()
        return torch.maximum(sample.low, -edge), torch.minimum(sample.high, edge)


@dataclass(frozen=True)
class LeastError(Criterion):
    """The range with the least sum of squared rounding and clipping errors.

    Tried are 63 fractions of the extremes, ``64/64, 63/64, ..., 2/64``, of both ends at once; of
    equal errors the widest range wins. With ``apart``, and for formats with a zero point, the upper
    end is then tried by itself, and after it the lower one.

    >>> x = torch.cat([torch.linspace(-1, 1, 999), torch.tensor([9.0])])[None]
    >>> low, high = LeastError().choose(Sample.of(x), IntFormat(3))
    >>> bool(high < 4)
    True
    """

    apart: bool = False

    def choose(self, sample: Sample, fmt: IntFormat, /) -> Range:
        fmt = replace(fmt, rounding=NEAREST_EVEN)
        low, high = _best(sample, fmt, (sample.low, sample.high), (True, True))
        if self.apart and fmt.affine:
            low, high = _best(sample, fmt, (low, sample.high), (False, True))
            low, high = _best(sample, fmt, (sample.low, high), (True, False))
        return low, high


def _best(sample: Sample, fmt: IntFormat, widest: Range, moved: tuple[bool, bool]) -> Range:
    """The range with the least error of those whose moved ends are fractions of ``widest``."""
    best, least = widest, torch.full(sample.low.shape, torch.inf, dtype=torch.float64)
    least = least.to(sample.low.device)
    for fraction in _FRACTIONS:
        tried = tuple(
            end * fraction if moves else end for end, moves in zip(widest, moved, strict=True)
        )
        error = _squared_error(sample, fmt, *tried)
        better = error < least
        least = torch.where(better, error, least)
        best = (torch.where(better, tried[0], best[0]), torch.where(better, tried[1], best[1]))
    return best


def _squared_error(sample: Sample, fmt: IntFormat, low: Tensor, high: Tensor) -> Tensor:
    scale, zero = scale_zero_point(fmt, low, high)
    codes = quantize(sample.values, fmt, scale, zero, 0)
    back = dequantize(codes, scale, zero, 0, torch.float64)
    return ((back - sample.values).square_() * sample.counts).sum(1)
