"""What was seen of a tensor, as values with counts: the values themselves, or a histogram."""

from __future__ import annotations

from typing import NamedTuple

import torch
from torch import Tensor

from dovetail.formats.bits import BINARY64, power_of_two
from dovetail.formats.observers.extremes import ends

__all__ = ["BINS", "Histogram", "Sample"]

#: Bins on each side of zero.
BINS = 2048
_LOG = 11  # of them
_TINY, _HUGE = -200, 200  # exponents of magnitudes beyond float32's on both sides
_CHUNK = 1 << 22


class Sample(NamedTuple):
    """Values of each row and how often each was seen.

    ``low``, ``high`` [rows]: the extremes, float32. ``values``, ``counts`` [rows, n]. ``edges``
    [rows, n]: the magnitude that covers a value: its own, or the upper edge of its bin.
    """

    low: Tensor
    high: Tensor
    values: Tensor
    counts: Tensor
    edges: Tensor

    @classmethod
    def of(cls, rows: Tensor) -> Sample:
        """The values of one tensor, each counted once; NaN and infinities count as zeros.

        >>> Sample.of(torch.tensor([[1.0, torch.nan]])).values
        tensor([[1., 0.]], dtype=torch.float64)
        """
        values = rows.detach().double().nan_to_num(0.0, 0.0, 0.0)
        return cls(*ends(values), values, torch.ones_like(values), values.abs())


class Histogram:
    """Counts of each row's values, in ``BINS`` equal bins on each side of zero.

    A bin is the smallest power of two wide with which the largest magnitude seen has a bin; where
    a batch exceeds that, neighbours merge. So the counts do not depend on how the values were cut
    into batches, or on their order. NaN and infinities are in no bin.

    >>> seen = Histogram(torch.tensor([[0.0, 3.0, -4.0]]))
    >>> float(seen.width), int(seen.counts.sum())
    (0.00390625, 3)
    """

    def __init__(self, rows: Tensor) -> None:
        self._exponent = torch.full(rows.shape[:1], _TINY, device=rows.device)
        self.counts = torch.zeros(len(rows), 2 * BINS, dtype=torch.int64, device=rows.device)
        self.add(rows)

    @property
    def width(self) -> Tensor:
        """The width of the bins of each row, float64 [rows]."""
        return power_of_two(self._exponent - _LOG)

    def add(self, rows: Tensor) -> None:
        """Count the values of ``rows`` [rows, n]; of negative ones the bins come first."""
        for part in rows.detach().split(max(1, _CHUNK // max(1, len(rows))), 1):
            finite = part.isfinite()
            values = torch.where(finite, part, 0.0).double()
            magnitude = values.abs()
            self._widen(_exponent(magnitude.amax(1)))
            # Beyond float32 on either side: into the last bin, or into the one at zero.
            place = (magnitude / self.width[:, None]).clamp(max=BINS - 1).long()
            self.counts.scatter_add_(1, place + BINS * (values > 0), finite.long())

    def _widen(self, exponent: Tensor) -> None:
        """Merge bins until magnitudes below ``2**exponent`` have one."""
        widest = torch.maximum(exponent, self._exponent)
        by = (widest - self._exponent).clamp(max=_LOG)
        place = torch.arange(BINS, device=by.device) >> by[:, None]
        place = torch.cat([place, place + BINS], 1)
        self.counts = torch.zeros_like(self.counts).scatter_add_(1, place, self.counts)
        self._exponent = widest

    def magnitudes(self) -> Tensor:
        """Counts by magnitude alone, [rows, BINS]."""
        return self.counts[:, :BINS] + self.counts[:, BINS:]

    def sample(self, low: Tensor, high: Tensor) -> Sample:
        """Every bin as its centre, the one at zero as zero itself; the extremes are given."""
        bins, width = torch.arange(BINS, device=self.counts.device), self.width[:, None]
        centres = torch.where(bins == 0, 0.0, bins + 0.5) * width
        edges = ((bins + 1) * width).repeat(1, 2)
        values = torch.cat([-centres, centres], 1)
        return Sample(low, high, values, self.counts.double(), edges)


def _exponent(magnitude: Tensor) -> Tensor:
    """The ``e`` of the smallest ``2**e`` above a magnitude, within bounds."""
    e = (magnitude.view(torch.int64) >> BINARY64.fraction) - (BINARY64.bias - 1)
    return e.clamp(_TINY, _HUGE)
