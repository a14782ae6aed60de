"""How far tensors are from exact ones: sums of squares and products, gathered over calls."""

from __future__ import annotations

import math
from dataclasses import dataclass
from typing import Any

import numpy as np
import torch
from torch import Tensor

from dovetail._batches import classes_first
from dovetail.analysis.attribution.scores import IGNORED
from dovetail.analysis.metrics import decibels

__all__ = ["Compared", "Divergence", "same_bits"]


@dataclass
class Compared:
    """Of exact values ``r`` and errors ``e`` so far the sums of ``r r``, ``r e`` and ``e e``."""

    signal: float = 0.0
    cross: float = 0.0
    noise: float = 0.0

    def add(self, exact: Tensor, other: Tensor) -> None:
        """Values of one more call. Equal infinities, as masks have them, are no error.

        >>> found = Compared()
        >>> found.add(torch.tensor([3.0, 4.0]), torch.tensor([3.0, 3.5]))
        >>> found.sqnr_db, round(found.cosine, 4)
        (20.0, 0.9979)
        """
        # NumPy's sum runs in one order, torch's in one that depends on the number of threads.
        r, t = (x.detach().cpu().to(torch.float64).numpy() for x in (exact, other))
        with np.errstate(invalid="ignore", over="ignore"):
            same = np.isinf(r) & (r == t)
            if same.any():
                r, t = np.where(same, 0.0, r), np.where(same, 0.0, t)
            e = t - r
            self.signal += float(np.square(r).sum())
            self.cross += float((r * e).sum())
            self.noise += float(np.square(e).sum())

    @property
    def sqnr_db(self) -> float:
        return decibels(self.signal, self.noise)

    @property
    def cosine(self) -> float:
        """Of the angle between exact values and others: 1 where they are the same."""
        if self.noise == 0:
            return 1.0
        other = self.signal + 2 * self.cross + self.noise
        product = math.sqrt(max(0.0, self.signal)) * math.sqrt(max(0.0, other))
        return (self.signal + self.cross) / product if product else math.nan


@dataclass
class Divergence:
    """The Kullback-Leibler divergence of classes' probabilities, exact ones first, in nats: its
    mean over the targets that are not ignored."""

    total: float = 0.0
    count: int = 0

    def add(self, exact: Any, other: Any, target: Tensor) -> None:
        """One more batch of logits.

        >>> found = Divergence()
        >>> found.add(torch.tensor([[1.0, 1.0]]), torch.tensor([[2.0, 2.0]]), torch.tensor([0]))
        >>> found.mean
        0.0
        """
        p, q = (
            classes_first(y, target).detach().double().log_softmax(1).cpu() for y in (exact, other)
        )
        counts = (target != IGNORED).cpu().unsqueeze(1)
        per_class = torch.where((p == q) | ~counts, torch.zeros_like(p), p.exp() * (p - q))
        self.total += float(np.sum(per_class.numpy()))
        self.count += int(counts.sum())

    @property
    def mean(self) -> float:
        return self.total / max(1, self.count)


_BITS = {8: torch.int64, 4: torch.int32, 2: torch.int16, 1: torch.int8}


def same_bits(one: Tensor, other: Tensor) -> bool:
    """Whether two tensors hold the same bits: -0 is not 0, a NaN is itself.

    >>> same_bits(torch.tensor([0.0]), torch.tensor([-0.0]))
    False
    """
    if one.shape != other.shape or one.dtype != other.dtype:
        return False
    kind = _BITS[one.element_size()]
    return torch.equal(one.contiguous().view(kind), other.contiguous().view(kind))
