"""What a design is judged by: the loss of what an array leaves out, and the constant for it."""

from __future__ import annotations

from abc import ABC, abstractmethod
from dataclasses import dataclass, field

import numpy as np

from dovetail.multipliers.designs.area import array_area
from dovetail.multipliers.designs.moments import FloatArray, moments
from dovetail.multipliers.factorisation import bit_weights
from dovetail.multipliers.operands import Bits, IntArray, operand_range
from dovetail.multipliers.partial_products import extremes

__all__ = ["OBJECTIVES", "Criterion", "criterion"]

OBJECTIVES = ("mse", "med")


@dataclass
class Criterion(ABC):
    """The loss of arrays of one width under one distribution of operands.

    ``dropped`` is always a vector of 0 and 1 over the partial products, row by row.
    """

    joint: FloatArray
    bits: Bits
    signed: bool
    compensate: bool
    _areas: dict[bytes, int] = field(default_factory=dict, init=False)

    @property
    def count(self) -> int:
        """How many partial products there are."""
        return self.bits[0] * self.bits[1]

    def area(self, dropped: IntArray) -> int:
        """Unit gates of what is kept, the constant's included."""
        key = dropped.tobytes()
        if key not in self._areas:
            kept = (1 - dropped).reshape(self.bits)
            constant = self.constant(dropped)
            self._areas[key] = array_area(kept, self.bits, self.signed, constant)
        return self._areas[key]

    def constant(self, dropped: IntArray) -> int:
        """The whole number that makes up best for what is dropped, within the product's bits."""
        if not self.compensate or not dropped.any():
            return 0
        kept = (1 - dropped).reshape(self.bits)
        least, most = extremes(kept, self.bits, self.signed)
        low, high = operand_range(sum(self.bits), self.signed)
        return min(max(round(self._centre(dropped)), low - least), high - most)

    @abstractmethod
    def square(self) -> MeanSquare:
        """The mean square error under the same operands, where a search begins."""

    @abstractmethod
    def loss(self, dropped: IntArray) -> float:
        """What is made small."""

    @abstractmethod
    def flips(self, dropped: IntArray) -> FloatArray:
        """The loss after each partial product's being dropped or put back, one at a time."""

    @abstractmethod
    def exchanges(self, dropped: IntArray) -> FloatArray:
        """``[n, n]``: the loss after both of two partial products are flipped; infinity where it
        was not looked at."""

    @abstractmethod
    def _centre(self, dropped: IntArray) -> float:
        """The best constant, before it is a whole number."""


class MeanSquare(Criterion):
    """A quadratic form: see `dovetail.multipliers.designs.moments`."""

    def prepare(self, depth: float) -> MeanSquare:
        """With the form for sums of ``depth`` products."""
        found = moments(self.joint, self.bits, self.signed)
        self.mean = found.mean
        self.form = found.covariance if self.compensate else found.loss(depth)
        return self

    def square(self) -> MeanSquare:
        return self

    def loss(self, dropped: IntArray) -> float:
        return float(dropped @ self.form @ dropped)

    def flips(self, dropped: IntArray) -> FloatArray:
        step = 1.0 - 2.0 * dropped
        change = step * 2 * (self.form @ dropped) + np.diag(self.form)
        return np.asarray(self.loss(dropped) + change)

    def exchanges(self, dropped: IntArray) -> FloatArray:
        """``[n, n]``: the loss after both of two partial products are flipped."""
        step = 1.0 - 2.0 * dropped
        single = self.flips(dropped) - self.loss(dropped)
        both = single[:, None] + single[None] + 2 * np.outer(step, step) * self.form
        return np.asarray(self.loss(dropped) + both)

    def _centre(self, dropped: IntArray) -> float:
        return float(self.mean @ dropped)


class MeanAbsolute(Criterion):
    """Over all pairs of operands that occur; the constant is the median of what is left out.

    Neighbours are judged with the constant of where one stands.
    """

    def prepare(self) -> MeanAbsolute:
        """With the values of all partial products for those pairs."""
        first, second = np.nonzero(self.joint)
        self.weight = self.joint[first, second].astype(np.float32)
        sides = [
            (codes[:, None] >> np.arange(width) & 1) * bit_weights(width, self.signed)
            for codes, width in zip((first, second), self.bits, strict=True)
        ]
        products = sides[0].T[:, None] * sides[1].T[None]
        self.values = products.reshape(self.count, -1).astype(np.float32)
        return self

    def square(self) -> MeanSquare:
        """The mean square error under the same operands, where a search begins."""
        return MeanSquare(self.joint, self.bits, self.signed, self.compensate).prepare(1)

    def loss(self, dropped: IntArray) -> float:
        return self._absolute(self.constant(dropped) - self._left_out(dropped))

    def flips(self, dropped: IntArray) -> FloatArray:
        error = self.constant(dropped) - self._left_out(dropped)
        step = 1 - 2 * dropped
        return np.array(
            [self._absolute(error - s * v) for s, v in zip(step, self.values, strict=True)]
        )

    def exchanges(self, dropped: IntArray) -> FloatArray:
        """Of one that is dropped with one that is kept."""
        error = self.constant(dropped) - self._left_out(dropped)
        found = np.full((self.count, self.count), np.inf)
        for back in np.flatnonzero(dropped):
            without = error + self.values[back]
            for away in np.flatnonzero(dropped == 0):
                at = (min(back, away), max(back, away))
                found[at] = self._absolute(without - self.values[away])
        return found

    def _left_out(self, dropped: IntArray) -> FloatArray:
        return np.asarray(dropped.astype(np.float32) @ self.values)

    def _absolute(self, error: FloatArray) -> float:
        return float(np.abs(error) @ self.weight)

    def _centre(self, dropped: IntArray) -> float:
        left_out = self._left_out(dropped)
        order = np.argsort(left_out, kind="stable")
        half = np.searchsorted(np.cumsum(self.weight[order]), 0.5)
        return float(left_out[order[min(int(half), len(order) - 1)]])


def criterion(
    objective: str, joint: FloatArray, bits: Bits, signed: bool, depth: float, constant: bool
) -> Criterion:
    """The criterion of that name.

    >>> aim = criterion("mse", np.full((4, 4), 1 / 16), (2, 2), False, 1, False)
    >>> aim.loss(np.array([1, 0, 0, 0]))  # a0 w0 is 1 for one pair in four
    0.25
    """
    if objective == "mse":
        return MeanSquare(joint, bits, signed, constant).prepare(depth)
    return MeanAbsolute(joint, bits, signed, constant).prepare()
