"""What a cast can say beside its result: where it does not clip, and how often it does."""

from __future__ import annotations

from collections.abc import Callable

import torch
from torch import Tensor

__all__ = ["Report"]


class Report:
    """Asked of a cast, and filled by it: a mask of the values that do not clip, and counts.

    ``inside`` (bool, the tensor's shape) is where rounding to nearest stays within the format's
    finite range; with ``clip=False``, where the value is finite. With ``count=True``, ``counts``
    (int64) holds the numbers of finite values outside, of infinities and of NaN.

    >>> report = Report(count=True)
    >>> report.fill(torch.tensor([1.0, 9.0, torch.nan]), lambda x: x < 5)
    >>> report.inside, report.counts
    (tensor([ True, False, False]), tensor([1, 0, 1]))
    """

    def __init__(self, clip: bool = True, count: bool = False) -> None:
        self.clip, self.count = clip, count
        self.inside: Tensor | None = None
        self.counts: Tensor | None = None

    def fill(self, x: Tensor, inside: Callable[[Tensor], Tensor]) -> None:
        """The report of a cast in torch, ``inside`` being where it does not clip."""
        self.inside = inside(x) if self.clip else torch.isfinite(x)
        if self.count:
            infinite, nan = torch.isinf(x).sum(), torch.isnan(x).sum()
            outside = x.numel() - self.inside.sum() - infinite - nan
            self.counts = torch.stack((outside, infinite, nan))
