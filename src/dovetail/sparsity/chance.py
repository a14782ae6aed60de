"""Weights kept by chance."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any

import torch
from torch import Tensor

from dovetail.errors import DovetailError
from dovetail.formats.philox import random_words
from dovetail.sparsity.pattern import Pattern, share_of

__all__ = ["Bernoulli"]


@dataclass(frozen=True)
class Bernoulli(Pattern):
    """Each weight by itself with a probability: ``probability``, or its score.

    Drawn with Philox4x32-10 under ``seed`` (element i of the row-major order takes word i), so the
    mask is the same on every device and for any number of threads. ``redraw``: while a module
    trains, every call draws anew from torch's generator. Scores are clamped to 0..1.

    >>> Bernoulli(0.5, seed=1).mask(torch.zeros(8)).int().tolist()
    [0, 0, 0, 0, 0, 0, 1, 0]
    """

    probability: float | None = None
    seed: int = 0
    redraw: bool = False

    def __post_init__(self) -> None:
        if self.probability is not None:
            object.__setattr__(self, "probability", share_of(self.probability))
        if not isinstance(self.seed, int) or not 0 <= self.seed < 1 << 32:
            raise DovetailError(f"seed={self.seed}: a seed is a whole number of 32 bits")

    @property
    def call(self) -> tuple[str, tuple[Any, ...], dict[str, Any]]:
        given = [] if self.probability is None else [self.probability]
        named = {"seed": self.seed} if self.seed else {}
        return "bernoulli", (*given, *(["redraw"] if self.redraw else [])), named

    @property
    def density(self) -> float | None:
        return self.probability

    def at_density(self, density: float) -> Bernoulli:
        if self.probability is None:
            return super().at_density(density)  # type: ignore[return-value]
        return Bernoulli(density, self.seed, self.redraw)

    @property
    def takes_probabilities(self) -> bool:
        return self.probability is None

    @property
    def draws(self) -> bool:
        return self.redraw

    def mask(self, scores: Tensor, axis: int = -1, stream: int = 0) -> Tensor:
        del axis
        key = self.seed | stream << 32
        key = key - (1 << 64) if key >= 1 << 63 else key
        return self.drawn(scores, torch.tensor(key, dtype=torch.int64, device=scores.device))

    def drawn(self, scores: Tensor, key: Tensor) -> Tensor:
        """The mask under a key of 64 bits, an int64 scalar tensor.

        >>> Bernoulli(1.0).drawn(torch.zeros(2), torch.tensor(7))
        tensor([True, True])
        """
        chance = scores.to(torch.float64)
        if self.probability is not None:
            chance = torch.full_like(chance, self.probability)
        words = random_words(scores.shape, key)
        return torch.isnan(chance) | (words < chance.clamp(0, 1) * 2.0**32)
