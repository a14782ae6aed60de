"""Errors of a floating-point multiplier, relative to the exact product."""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import asdict, dataclass
from typing import TYPE_CHECKING, Any

import numpy as np
import numpy.typing as npt

from dovetail.formats.values import values_of
from dovetail.multipliers.metrics import SAMPLES

if TYPE_CHECKING:
    from dovetail.multipliers.floating import FloatMultiplier

__all__ = ["FloatErrors", "measure"]

FloatArray = npt.NDArray[np.float64]
_LISTED = 8  # bits of a format all of whose values are paired
_PAIRED = 11  # mantissa bits up to which all significands are
_BLOCK = 1 << 20


@dataclass(frozen=True)
class FloatErrors:
    """Statistics of ``f(a, w) / (a * w) - 1`` over operand pairs with a non-zero product.

    ``mred``: mean of its magnitude; ``worst``: its largest magnitude; ``bias``: its mean; ``ep``:
    the share of pairs with an error. A product that overflows to infinity or NaN counts in ``ep``
    and in ``overflow``, the share of such pairs, only. Shares are fractions, not per cent.
    ``method`` says which pairs were measured.
    """

    mred: float
    worst: float
    bias: float
    ep: float
    overflow: float
    method: str

    def to_dict(self) -> dict[str, Any]:
        """All metrics by name.

        >>> from dovetail.multipliers import float_multiplier
        >>> float_multiplier("bf16").errors().to_dict()["mred"]
        0.0
        """
        return asdict(self)


def measure(mul: FloatMultiplier) -> FloatErrors:
    """See `FloatMultiplier.errors`.

    >>> from dovetail.multipliers import float_multiplier
    >>> measure(float_multiplier("bf16", "mitchell")).method
    'all 16384 pairs of significands'
    """
    fmt = mul.format
    if fmt.bits <= _LISTED:
        values = np.array([v for v in values_of(fmt) if v])
        method = f"all {values.size**2} pairs of finite, non-zero operands"
    else:
        values = 1 + np.arange(1 << fmt.mantissa) / (1 << fmt.mantissa)
        method = f"all {values.size**2} pairs of significands"
    if fmt.mantissa > _PAIRED:
        method = f"{SAMPLES} sampled pairs of significands, seed 0"
    sums, worst, count = np.zeros(4), 0.0, 0
    for a, w in _pairs(values, fmt.mantissa > _PAIRED):
        error = mul(a, w) / (a * w) - 1
        finite = np.isfinite(error)
        known = error[finite]
        sums += _sums(known, error.size)
        worst = max(worst, float(np.abs(known).max(initial=0.0)))
        count += error.size
    share = sums / count
    known_share = 1 - share[3]
    mean = share[:2] / known_share if known_share else np.zeros(2)
    return FloatErrors(
        float(mean[0]), worst, float(mean[1]), float(share[2] + share[3]), float(share[3]), method
    )


def _pairs(values: FloatArray, sampled: bool) -> Iterator[tuple[FloatArray, FloatArray]]:
    """Operands that broadcast, some rows at a time."""
    if sampled:
        a, w = np.random.default_rng(0).choice(values, (2, SAMPLES))
        yield a, w
        return
    rows = max(1, _BLOCK // values.size)
    for start in range(0, values.size, rows):
        yield values[start : start + rows, None], values[None]


def _sums(known: FloatArray, count: int) -> FloatArray:
    """Of the magnitudes, of the errors, of the pairs with a finite error, of those without."""
    wrong = np.count_nonzero(known)
    return np.array([np.abs(known).sum(), known.sum(), wrong, count - known.size], dtype=np.float64)
