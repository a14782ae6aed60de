"""Observers: the range of a tensor, gathered over batches, one batch in memory at a time."""

from __future__ import annotations

from abc import ABC, abstractmethod

import torch
from torch import Tensor

from dovetail._spelling import parse_call
from dovetail.errors import DovetailError, unknown

__all__ = ["MinMax", "Observer", "Percentile", "observer"]


class Observer(ABC):
    """Sees tensors one after another and ends with one range for all of them."""

    @abstractmethod
    def update(self, x: Tensor) -> None:
        """Take in one more tensor; NaN is left out, infinities are refused at the end."""

    @abstractmethod
    def range(self) -> tuple[Tensor, Tensor]:
        """Smallest and largest value to cover, float32 scalars."""


class MinMax(Observer):
    """The extremes of everything seen.

    >>> seen = MinMax()
    >>> seen.update(torch.tensor([-1.0, 3.0])); seen.update(torch.tensor([0.5]))
    >>> seen.range()
    (tensor(-1.), tensor(3.))
    """

    def __init__(self) -> None:
        self.low = torch.tensor(float("inf"))
        self.high = torch.tensor(float("-inf"))

    def update(self, x: Tensor) -> None:
        values = x.float()
        values = values[~values.isnan()]
        if values.numel():
            low, high = torch.aminmax(values.cpu())
            self.low, self.high = torch.minimum(self.low, low), torch.maximum(self.high, high)

    def range(self) -> tuple[Tensor, Tensor]:
        return self.low, self.high


class Percentile(Observer):
    """The central ``percent`` of the values, cut off equally by magnitude on both sides.

    Magnitudes are counted in 4096 bins from 0; when a batch exceeds them the bin width doubles and
    neighbours merge, so counts stay exact. The result is the upper edge of the bin that holds the
    percentile, never beyond the extremes.

    >>> seen = Percentile(50.0)
    >>> seen.update(torch.arange(1.0, 101.0))
    >>> 49.0 <= float(seen.range()[1]) <= 51.0
    True
    """

    BINS = 4096

    def __init__(self, percent: float) -> None:
        if not 0.0 < percent <= 100.0:
            raise DovetailError(f"percentile({percent}): the percentage lies in (0, 100]")
        self.percent = percent
        self.extremes = MinMax()
        self.width = 0.0
        self.counts = torch.zeros(self.BINS, dtype=torch.int64)

    def update(self, x: Tensor) -> None:
        self.extremes.update(x)
        magnitude = x.detach().float().abs().flatten().cpu()
        magnitude = magnitude[torch.isfinite(magnitude)]
        peak = float(magnitude.max()) if magnitude.numel() else 0.0
        if peak == 0.0:
            self.counts[0] += magnitude.numel()
            return
        if self.width == 0.0:
            self.width = peak / self.BINS
        while peak > self.width * self.BINS:
            self.width *= 2.0
            merged = self.counts.view(-1, 2).sum(1)
            self.counts = torch.cat([merged, torch.zeros_like(merged)])
        index = (magnitude.double() / self.width).long().clamp(max=self.BINS - 1)
        self.counts += torch.bincount(index, minlength=self.BINS)

    def range(self) -> tuple[Tensor, Tensor]:
        low, high = self.extremes.range()
        total = int(self.counts.sum())
        if total == 0:
            return low, high
        wanted = self.percent / 100.0 * total
        place = int((self.counts.cumsum(0) < wanted).sum())
        edge = torch.tensor((place + 1) * self.width)
        return torch.maximum(low, -edge), torch.minimum(high, edge)


def observer(spec: str) -> Observer:
    """The observer that ``spec`` spells: ``"minmax"`` or ``"percentile(99.9)"``.

    >>> observer("percentile(99.9)").percent
    99.9
    >>> observer("min")
    Traceback (most recent call last):
    dovetail.errors.DovetailError: unknown observer 'min'; did you mean 'minmax'? ...
    """
    name, args, kwargs = parse_call(spec)
    if name not in ("minmax", "percentile"):
        raise unknown("observer", name, ["minmax", "percentile"])
    if name == "minmax" and not args and not kwargs:
        return MinMax()
    numbers = [*args, *kwargs.values()]
    if name == "minmax" or len(numbers) != 1 or not isinstance(numbers[0], (int, float)):
        raise DovetailError(
            f"observer '{spec}': 'minmax' takes no argument, 'percentile(99.9)' one"
        )
    return Percentile(float(numbers[0]))
