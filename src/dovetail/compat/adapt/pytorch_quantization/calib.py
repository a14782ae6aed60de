"""Calibrators: what was seen of a tensor, and the largest magnitude to cover that follows."""

from __future__ import annotations

import torch
from torch import Tensor

from dovetail.errors import DovetailError, unknown
from dovetail.formats import IntFormat
from dovetail.formats.observers import Observer
from dovetail.formats.observers.extremes import MinMax
from dovetail.formats.observers.registry import Binned, Entropy

__all__ = ["HistogramCalibrator", "MaxCalibrator"]


class MaxCalibrator:
    """The largest magnitude seen.

    >>> seen = MaxCalibrator(IntFormat(8))
    >>> seen.collect(torch.tensor([1.0, -3.0]))
    >>> seen.compute_amax()
    tensor(3.)
    """

    def __init__(self, format: IntFormat) -> None:
        self.format, self._seen = format, MinMax()

    def reset(self) -> None:
        """Forget everything."""
        self._seen = MinMax()

    def collect(self, x: Tensor) -> None:
        """Take in one more tensor."""
        self._seen.update(x.detach().reshape(1, -1))

    def compute_amax(self) -> Tensor:
        """What follows: float32, no dimensions."""
        return _amax(self._seen, self.format)


class HistogramCalibrator:
    """A histogram, from which each method chooses (:mod:`dovetail.formats.observers`).

    >>> seen = HistogramCalibrator(IntFormat(8))
    >>> seen.collect(torch.cat([torch.linspace(-1, 1, 9999), torch.tensor([8.0])]))
    >>> float(seen.compute_amax("max")), bool(seen.compute_amax("percentile", percentile=99) < 1)
    (8.0, True)
    """

    def __init__(self, format: IntFormat) -> None:
        self.format = format
        self._seen: Binned = Entropy()

    def reset(self) -> None:
        """Forget everything."""
        self._seen = Entropy()

    def collect(self, x: Tensor) -> None:
        """Take in one more tensor."""
        self._seen.update(x.detach().reshape(1, -1))

    def compute_amax(self, method: str = "percentile", *, percentile: float = 99.99) -> Tensor:
        """By ``method``: ``percentile``, ``mse``, ``entropy`` or ``max``."""
        methods = {"percentile": f"percentile({percentile})"}
        methods |= {name: name for name in ("mse", "entropy", "max")}
        if method not in methods:
            raise unknown("method", str(method), methods)
        return _amax(self._seen.by(methods[method]), self.format)


def _amax(seen: Observer, format: IntFormat) -> Tensor:
    low, high = seen.range(format)
    if not low.numel() or bool(low > high):
        raise DovetailError("nothing was collected: no batch reached this quantiser")
    if not bool(low.isfinite() & high.isfinite()):
        raise DovetailError(f"what was collected ranges over {float(low)}..{float(high)}")
    return torch.maximum(-low, high)[0]
