"""The error of an array as a quadratic form of what it leaves out.

With d the partial products left out (0 or 1) and c the constant, the error is ``c - d . t``, t
being the values of all partial products. Its mean and mean square follow from the first and second
moments of t under the operands' distribution, whatever d is.
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any

import numpy as np
import numpy.typing as npt
import torch

from dovetail.errors import DovetailError
from dovetail.multipliers.factorisation import bit_weights
from dovetail.multipliers.operands import Bits

__all__ = ["Moments", "joint_of", "moments"]

FloatArray = npt.NDArray[np.float64]


@dataclass(frozen=True)
class Moments:
    """``mean [n]`` and ``second [n, n]`` of the n partial products, row by row of the array."""

    mean: FloatArray
    second: FloatArray

    def loss(self, depth: float) -> FloatArray:
        """The form ``q`` for which ``d q d`` is the mean square error of a sum of ``depth``
        products without a constant, over ``depth``: the variance, and ``depth`` times the squared
        mean."""
        return self.second + (depth - 1) * np.outer(self.mean, self.mean)

    @property
    def covariance(self) -> FloatArray:
        """The form of the variance: what a constant leaves of the mean square error."""
        return self.second - np.outer(self.mean, self.mean)


def moments(joint: FloatArray, bits: Bits, signed: bool) -> Moments:
    """Under the probability ``joint[code of first, code of second]``.

    >>> moments(np.full((4, 4), 1 / 16), (2, 2), signed=False).mean
    array([0.25, 0.5 , 0.5 , 1.  ])
    """
    values = []
    for width in bits:
        codes = np.arange(1 << width)
        values.append((codes[:, None] >> np.arange(width) & 1) * bit_weights(width, signed))
    first, second = (side.astype(np.float64) for side in values)
    mean = first.T @ joint @ second
    pairs = [np.einsum("ci,cj->cij", side, side).reshape(len(side), -1) for side in (first, second)]
    squares = (pairs[0].T @ joint @ pairs[1]).reshape(bits[0], bits[0], bits[1], bits[1])
    count = bits[0] * bits[1]
    return Moments(mean.ravel(), squares.transpose(0, 2, 1, 3).reshape(count, count))


def joint_of(operands: Any, bits: Bits) -> FloatArray:
    """A probability for each pair of codes, from nothing (uniform), a weight for each pair, or a
    pair of weights for each code of either operand.

    >>> joint_of(([1, 1], [3, 1]), (1, 1))
    array([[0.375, 0.125],
           [0.375, 0.125]])
    """
    shape = (1 << bits[0], 1 << bits[1])
    if operands is None:
        return np.full(shape, 1.0 / (shape[0] * shape[1]))
    if isinstance(operands, (tuple, list)) and len(operands) == 2:
        sides = [
            _weights(side, (n,), "weights by code") for side, n in zip(operands, shape, strict=True)
        ]
        return np.outer(*sides)
    return _weights(operands, shape, "a weight for each pair of codes")


def _weights(given: Any, shape: tuple[int, ...], what: str) -> FloatArray:
    values = given.detach().cpu().numpy() if isinstance(given, torch.Tensor) else np.asarray(given)
    if values.shape != shape:
        raise DovetailError(
            f"operands= has shape {list(values.shape)}; expected {list(shape)}, {what}, or the two "
            "operands' own as a pair"
        )
    weights = values.astype(np.float64)
    if not np.isfinite(weights).all() or (weights < 0).any() or weights.sum() == 0:
        raise DovetailError("operands= must hold finite, non-negative weights, not all zero")
    return np.asarray(weights / weights.sum())
