"""What an observer is: it sees values, batch by batch, and ends with a range to cover."""

from __future__ import annotations

from abc import ABC, abstractmethod

import torch
from torch import Tensor

from dovetail.errors import DovetailError
from dovetail.formats.integer import IntFormat

__all__ = ["Observer", "Range", "nothing"]

Range = tuple[Tensor, Tensor]  # the smallest and the largest value to cover, float32 [rows]


class Observer(ABC):
    """Sees rows of values and ends with one range for each row.

    ``update`` takes in one more batch, ``[rows, n]`` of any floating dtype; only what the range
    follows from is kept of it. ``range`` is that of a format: how many codes there are decides how
    much of the range an observer gives up.
    """

    def __init__(self) -> None:
        self.rows: int | None = None
        self._seen = False

    def update(self, rows: Tensor) -> None:
        """Take in one more batch. NaN is left out; infinities stay in the range."""
        if self.rows is not None and rows.shape[0] != self.rows:
            raise DovetailError(
                f"ranges of {self.rows} channels, and then a batch of {rows.shape[0]}"
            )
        self.rows = rows.shape[0]
        if rows.numel():
            values = rows.detach()
            self._seen = True
            self._take(values if values.dtype == torch.float64 else values.float())

    @abstractmethod
    def _take(self, rows: Tensor) -> None:
        """Take in rows that are not empty, float32 or float64."""

    def range(self, fmt: IntFormat, /) -> Range:
        """The range of each row; ``inf..-inf`` where nothing was seen."""
        return self._range(fmt) if self._seen else nothing(self.rows or 0)

    @abstractmethod
    def _range(self, fmt: IntFormat, /) -> Range:
        """The range of each row, once something was seen."""


def nothing(rows: int) -> Range:
    """The range of rows without values.

    >>> nothing(1)
    (tensor([inf]), tensor([-inf]))
    """
    return torch.full((rows,), torch.inf), torch.full((rows,), -torch.inf)
