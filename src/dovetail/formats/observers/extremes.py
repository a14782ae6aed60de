"""Observers of the smallest and the largest value."""

from __future__ import annotations

import torch
from torch import Tensor

from dovetail.errors import DovetailError
from dovetail.formats.integer import IntFormat
from dovetail.formats.observers.base import Observer, Range

__all__ = ["MinMax", "MovingAverage", "ends"]


def ends(rows: Tensor) -> Range:
    """The extremes of each row, NaN left out: ``inf..-inf`` where there is nothing else.

    >>> ends(torch.tensor([[1.0, torch.nan, -2.0]]))
    (tensor([-2.]), tensor([1.]))
    """
    low = torch.where(rows.isnan(), torch.inf, rows).amin(1)
    high = torch.where(rows.isnan(), -torch.inf, rows).amax(1)
    return low.float(), high.float()


class MinMax(Observer):
    """The extremes of everything seen.

    >>> seen = MinMax()
    >>> seen.update(torch.tensor([[-1.0, 3.0]])); seen.update(torch.tensor([[0.5]]))
    >>> seen.range(IntFormat(8))
    (tensor([-1.]), tensor([3.]))
    """

    def __init__(self) -> None:
        super().__init__()
        self._ends: Range | None = None

    def _take(self, rows: Tensor) -> None:
        low, high = ends(rows)
        if self._ends is not None:
            low = torch.minimum(low, self._ends[0])
            high = torch.maximum(high, self._ends[1])
        self._ends = low, high

    def _range(self, _fmt: IntFormat, /) -> Range:
        assert self._ends is not None
        return self._ends


class MovingAverage(Observer):
    """The extremes of a batch, averaged over the batches: each counts ``1 - momentum``, those
    before it ``momentum`` (Jacob et al. 2018, arXiv 1712.05877, section 3.1). The first batch
    counts whole.

    >>> seen = MovingAverage(0.5)
    >>> seen.update(torch.tensor([[0.0, 4.0]])); seen.update(torch.tensor([[-2.0, 2.0]]))
    >>> seen.range(IntFormat(8))
    (tensor([-1.]), tensor([3.]))
    """

    def __init__(self, momentum: float = 0.9) -> None:
        super().__init__()
        if not 0.0 <= momentum < 1.0:
            raise DovetailError(
                f"moving_average({momentum}): the momentum lies in [0, 1), such as 0.9"
            )
        self.momentum = momentum
        self._ends: Range | None = None

    def _take(self, rows: Tensor) -> None:
        now = ends(rows)
        if self._ends is not None:
            now = (
                torch.lerp(now[0], self._ends[0], self.momentum),
                torch.lerp(now[1], self._ends[1], self.momentum),
            )
        self._ends = now

    def _range(self, _fmt: IntFormat, /) -> Range:
        assert self._ends is not None
        return self._ends
