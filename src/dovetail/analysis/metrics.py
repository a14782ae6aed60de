"""How good a model is, with the interval its test set allows, and how far two tensors differ."""

from __future__ import annotations

import math
from collections.abc import Iterable
from dataclasses import dataclass
from typing import Any

import numpy as np
import torch
from torch import Tensor, nn

from dovetail._batches import classes_first, cross_entropy, device_of, inputs_and_target, mode
from dovetail.errors import DovetailError

__all__ = ["Interval", "accuracy", "decibels", "perplexity", "powers", "sqnr_db", "wilson"]

Z95 = 1.959963984540054  # the 97.5 % quantile of the normal distribution


@dataclass(frozen=True)
class Interval:
    """A share measured on ``n`` cases, and the 95 % interval ``low`` to ``high`` around it."""

    value: float
    low: float
    high: float
    n: int

    def __str__(self) -> str:
        return f"{self.value:.1%} [{self.low:.1%}, {self.high:.1%}] (n={self.n})"

    def to_dict(self) -> dict[str, float | int]:
        """The same as plain values.

        >>> Interval(0.5, 0.25, 0.75, 8).to_dict()
        {'value': 0.5, 'low': 0.25, 'high': 0.75, 'n': 8}
        """
        return {"value": self.value, "low": self.low, "high": self.high, "n": self.n}


def wilson(hits: int, n: int) -> Interval:
    """The Wilson score interval at 95 % for ``hits`` out of ``n`` (Wilson, JASA 1927).

    Unlike the normal interval it stays inside 0..1 and is not empty at 0 or ``n`` hits.

    >>> print(wilson(9, 10))
    90.0% [59.6%, 98.2%] (n=10)
    >>> print(wilson(0, 10))
    0.0% [0.0%, 27.8%] (n=10)
    """
    if not 0 <= hits <= n or n < 1:
        raise DovetailError(f"{hits} hits out of {n}: needs 0 <= hits <= n and n >= 1")
    share, z2 = hits / n, Z95 * Z95
    centre = (share + z2 / (2 * n)) / (1 + z2 / n)
    half = Z95 / (1 + z2 / n) * math.sqrt(share * (1 - share) / n + z2 / (4 * n * n))
    # at the ends the bound is exactly 0 or 1; the formula misses it by a rounding
    low = 0.0 if hits == 0 else centre - half
    high = 1.0 if hits == n else centre + half
    return Interval(share, low, high, n)


def accuracy(model: nn.Module, loader: Iterable[Any]) -> Interval:
    """The share of targets that are the largest of their logits, over all batches of ``loader``.

    The model maps the inputs of a batch ``(inputs..., target)`` to logits ``[B, classes, ...]``, or
    as language models do ``[B, ..., classes]``, for integer targets ``[B, ...]``. It runs in eval
    mode, without gradients; each module's mode is restored. Logits with a NaN among them count as
    wrong.

    >>> identity = nn.Identity()
    >>> print(accuracy(identity, [(torch.eye(4), torch.tensor([0, 1, 2, 0]))]))
    75.0% [30.1%, 95.4%] (n=4)
    """
    hits = n = 0
    device = device_of(model)
    with mode(model, training=False), torch.no_grad():
        for batch in loader:
            inputs, target = inputs_and_target(batch, device)
            logits = classes_first(model(*inputs), target)
            _check_logits(logits, target)
            right = (logits.argmax(1) == target) & ~logits.isnan().any(1)
            hits += int(right.sum())
            n += target.numel()
    if n == 0:
        raise DovetailError("the loader gave no case: accuracy needs at least one")
    return wilson(hits, n)


def perplexity(model: nn.Module, loader: Iterable[Any]) -> float:
    """``exp`` of the mean cross entropy of all targets, with logits as :func:`accuracy` takes them.

    Less is better: 1 is certainty, and the number of classes a uniform guess. NaN if a logit is.

    >>> round(perplexity(nn.Identity(), [(torch.zeros(3, 128), torch.arange(3))]))
    128
    """
    total, n = 0.0, 0
    device = device_of(model)
    with mode(model, training=False), torch.no_grad():
        for batch in loader:
            inputs, target = inputs_and_target(batch, device)
            logits = classes_first(model(*inputs), target)
            _check_logits(logits, target)
            total += float(cross_entropy(logits.double(), target)) * target.numel()
            n += target.numel()
    if n == 0:
        raise DovetailError("the loader gave no case: perplexity needs at least one")
    return math.exp(total / n) if total / n < 700 else math.inf


def _check_logits(logits: object, target: Tensor) -> None:
    if not isinstance(logits, Tensor):
        raise DovetailError(f"the model gave a {type(logits).__name__}; accuracy needs logits")
    if logits.ndim < 2 or (logits.shape[0], *logits.shape[2:]) != target.shape:
        raise DovetailError(
            f"logits of shape {tuple(logits.shape)} do not fit targets of shape "
            f"{tuple(target.shape)}: expected [B, classes, ...] and [B, ...]"
        )


def sqnr_db(reference: Tensor, test: Tensor) -> float:
    """Signal to (quantisation) noise ratio in dB: ``10 log10(sum r^2 / sum (r - t)^2)``.

    Equal tensors give ``inf``, noise on a zero reference ``-inf``, a NaN or infinity in either
    ``nan``. Summed in float64.

    >>> sqnr_db(torch.tensor([3.0, 4.0]), torch.tensor([3.0, 3.5]))
    20.0
    >>> sqnr_db(torch.ones(3), torch.ones(3))
    inf
    """
    if reference.shape != test.shape:
        raise DovetailError(
            f"SQNR compares tensors of one shape, not {tuple(reference.shape)} and "
            f"{tuple(test.shape)}"
        )
    return decibels(*powers(reference, test))


def powers(reference: Tensor, test: Tensor) -> tuple[float, float]:
    """Signal and noise power as sums of squares in float64: ``sum r^2`` and ``sum (r - t)^2``.

    >>> powers(torch.tensor([3.0, 4.0]), torch.tensor([3.0, 3.5]))
    (25.0, 0.25)
    """
    # NumPy's sum runs in one order, torch's in one that depends on the number of threads
    r, t = (x.detach().cpu().to(torch.float64).numpy() for x in (reference, test))
    with np.errstate(invalid="ignore", over="ignore"):
        return float(np.square(r).sum()), float(np.square(r - t).sum())


def decibels(signal: float, noise: float) -> float:
    """Their ratio in dB; ``inf`` without noise, ``-inf`` without signal, ``nan`` if not finite.

    >>> decibels(100.0, 1.0), decibels(1.0, 0.0)
    (20.0, inf)
    """
    if not (math.isfinite(signal) and math.isfinite(noise)):
        return math.nan
    if noise == 0:
        return math.inf
    if signal == 0:
        return -math.inf
    return 10 * math.log10(signal / noise)
