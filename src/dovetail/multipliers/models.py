"""Models of a multiplier: approximations of an approximation, each with its fidelity.

They predict products as floating-point numbers, faster or smoother than the table, and are *not*
bit-exact: a `Model` is no `Multiplier` and is refused where one is expected.
"""

from __future__ import annotations

import inspect
from abc import ABC, abstractmethod
from collections.abc import Callable
from dataclasses import dataclass, replace
from typing import Any

import numpy as np
import numpy.typing as npt

from dovetail._numbers import is_whole
from dovetail.errors import DovetailError, unknown
from dovetail.multipliers.base import Multiplier
from dovetail.multipliers.operands import IntArray, check_operand, operand_values

__all__ = ["Fidelity", "LowRank", "Model", "Noise", "Polynomial", "model"]

FloatArray = npt.NDArray[np.float64]
TABLE_BITS = 16


@dataclass(frozen=True)
class Fidelity:
    """How far a model is from its multiplier: |prediction - product|, over all operand pairs or,
    of operands of more than 16 bits together, over 65536 drawn at random.

    ``max`` and ``mean`` of that distance, and ``rms``, the root of its mean square.
    """

    max: float
    mean: float
    rms: float


@dataclass(frozen=True, eq=False, repr=False)
class Model(ABC):
    """A prediction of the products of ``of``; ``fidelity`` states how far off it is."""

    of: Multiplier
    fidelity: Fidelity

    def __call__(self, first: Any, second: Any) -> FloatArray:
        """Predicted products of operand values, broadcast, as float64."""
        bits = self.of._width()
        a = check_operand(first, bits[0], self.of.signed, "first (input)")
        w = check_operand(second, bits[1], self.of.signed, "second (weight)")
        return self._predict(a, w)

    def __repr__(self) -> str:
        parameters = ", ".join(f"{key}={value!r}" for key, value in self._parameters().items())
        return f"{type(self).__name__}({self.of!r}, {parameters}, {self.fidelity!r})"

    @abstractmethod
    def _predict(self, first: IntArray, second: IntArray) -> FloatArray:
        """The prediction, on checked operand values that broadcast together."""

    @abstractmethod
    def _parameters(self) -> dict[str, Any]:
        """What the model is told by, besides its multiplier."""


@dataclass(frozen=True, eq=False, repr=False)
class Polynomial(Model):
    """A polynomial of degree 2 in ``a``, ``w`` and their remainders modulo ``2**e``.

    ``coefficients`` [5, 5]: symmetric in no way, row i and column j belong to the product of
    features i and j of ``1, a, w, a mod 2**e, w mod 2**e`` with i <= j. Least squares over all
    operand pairs, of wide ones over 65536 drawn at random. The kind of model that TorchApprox's
    "HTP" are (E. Trommer et al., 2023), fitted here.
    """

    e: int
    coefficients: FloatArray

    def _predict(self, first: IntArray, second: IntArray) -> FloatArray:
        features = _features(first, second, self.e)
        total = np.zeros(np.broadcast_shapes(first.shape, second.shape))
        for i, j in zip(*np.triu_indices(5), strict=True):
            total = total + self.coefficients[i, j] * features[i] * features[j]
        return np.asarray(total)

    def _parameters(self) -> dict[str, Any]:
        return {"e": self.e}


@dataclass(frozen=True, eq=False, repr=False)
class Noise(Model):
    """The exact product and a normally distributed error of the multiplier's mean and deviation.

    A call gives the expected product, ``a w + mean``; `sample` draws. The fidelity is that of the
    expected product.
    """

    mean: float
    deviation: float

    def _predict(self, first: IntArray, second: IntArray) -> FloatArray:
        return np.asarray(first * second + self.mean, dtype=np.float64)

    def sample(self, first: Any, second: Any, seed: int) -> FloatArray:
        """Products with noise, drawn anew for each; the same for the same seed and shape.

        >>> from dovetail.multipliers import multiplier
        >>> multiplier("exact(bits=8)").model("noise").sample([3, -4], 5, seed=0)
        array([ 15., -20.])
        """
        expected = self(first, second)
        noise = np.random.default_rng(seed).normal(0.0, self.deviation, expected.shape)
        return np.asarray(expected + noise)

    def _parameters(self) -> dict[str, Any]:
        return {"mean": self.mean, "deviation": self.deviation}


@dataclass(frozen=True, eq=False, repr=False)
class LowRank(Model):
    """``sum_r first[r, code(a)] * second[r, code(w)]``: the table's nearest one of rank r.

    Nearest in the mean square over all pairs (Eckart and Young 1936); the residual is the fidelity.
    """

    first: FloatArray
    second: FloatArray

    def _predict(self, first: IntArray, second: IntArray) -> FloatArray:
        bits = self.of._width()
        a, w = first & (1 << bits[0]) - 1, second & (1 << bits[1]) - 1
        total = np.zeros(np.broadcast_shapes(a.shape, w.shape))
        for left, right in zip(self.first, self.second, strict=True):
            total = total + left[a] * right[w]
        return np.asarray(total)

    def _parameters(self) -> dict[str, Any]:
        return {"rank": len(self.first)}


def model(m: Multiplier, kind: str, **parameters: Any) -> Model:
    """See `Multiplier.model`; all but ``poly`` for operands of up to 16 bits together.

    >>> from dovetail.multipliers import multiplier
    >>> model(multiplier("mitchell"), "low_rank", rank=3)  # doctest: +ELLIPSIS
    LowRank(mitchell(bits=8, signed=True), rank=3, Fidelity(max=...
    """
    if kind not in _KINDS:
        raise unknown("model of a multiplier", str(kind), _KINDS)
    if not m._tabulable(TABLE_BITS) and kind != "poly":
        raise DovetailError(
            f"{m!r}: this model is fitted over all operand pairs, of at most 8 + 8 bits; the "
            "nearest for wider operands is 'poly'"
        )
    make = _KINDS[kind]
    try:
        inspect.signature(make).bind(m, **parameters)
    except TypeError as error:
        raise DovetailError(f"model '{kind}': {error}") from None
    made = make(m, **parameters)
    a, w, products = _pairs(m, seed=1)
    distance = np.abs(made._predict(a, w) - products)
    fidelity = Fidelity(
        float(distance.max()), float(distance.mean()), float(np.sqrt((distance**2).mean()))
    )
    return replace(made, fidelity=fidelity)


_UNKNOWN = Fidelity(np.inf, np.inf, np.inf)


def _features(first: IntArray, second: IntArray, e: int) -> list[FloatArray]:
    low = (1 << e) - 1
    sides = (np.ones_like(first), first, second, first & low, second & low)
    return [side.astype(np.float64) for side in sides]


def _pairs(m: Multiplier, seed: int) -> tuple[IntArray, IntArray, IntArray]:
    """All operand pairs and their products, or, of wide operands, as many drawn at random."""
    if m._tabulable(TABLE_BITS):
        a, w = (operand_values(bits, m.signed) for bits in m._width())
        first, second = np.broadcast_arrays(a[:, None], w[None])
        return first.ravel(), second.ravel(), m._products.ravel()
    rng = np.random.default_rng(seed)
    a, w = (
        rng.integers(0, 1 << bits, 1 << TABLE_BITS) - (1 << bits - 1 if m.signed else 0)
        for bits in m._width()
    )
    return a, w, m._product(a, w)


def _polynomial(m: Multiplier, e: int | None = None) -> Polynomial:
    """The best ``e`` of 1 to the narrower width - 1, unless one is given."""
    most = max(min(m._width()) - 1, 1)
    if e is not None and (not is_whole(e) or not 1 <= e <= most):
        raise DovetailError(f"e={e!r}; give a whole number from 1 to {most}, or leave it out")
    fits = [_fit(m, power) for power in (range(1, most + 1) if e is None else [e])]
    # Equal up to rounding counts as equal: the smallest power then.
    best = min(error for error, _ in fits)
    return next(made for error, made in fits if error <= best * (1 + 1e-6) + 1e-6)


def _fit(m: Multiplier, e: int) -> tuple[float, Polynomial]:
    """Least squares over all pairs, and the sum of the squared residuals."""
    a, w, products = _pairs(m, seed=0)
    features = _features(a, w, e)
    pairs = list(zip(*np.triu_indices(5), strict=True))
    matrix = np.stack([features[i] * features[j] for i, j in pairs], axis=1)
    scale = np.abs(matrix).max(axis=0)
    scale[scale == 0] = 1.0
    wanted = products.astype(np.float64)
    solution = np.linalg.lstsq(matrix / scale, wanted, rcond=None)[0] / scale
    coefficients = np.zeros((5, 5))
    coefficients[np.triu_indices(5)] = solution
    error = float(((matrix @ solution - wanted) ** 2).sum())
    return error, Polynomial(m, _UNKNOWN, e, coefficients)


def _noise(
    m: Multiplier, first_pdf: Any = None, second_pdf: Any = None, joint: Any = None
) -> Noise:
    errors = m.errors(first_pdf, second_pdf, joint)
    return Noise(m, _UNKNOWN, errors.bias, float(np.sqrt(errors.variance)))


def _low_rank(m: Multiplier, rank: int) -> LowRank:
    most = min(m._products.shape)
    if not is_whole(rank) or not 0 <= rank <= most:
        raise DovetailError(f"rank={rank!r}; give a whole number from 0 to {most}")
    left, size, right = np.linalg.svd(m._products.astype(np.float64), full_matrices=False)
    root = np.sqrt(size[:rank])
    first, second = (left[:, :rank] * root).T, right[:rank] * root[:, None]
    return LowRank(m, _UNKNOWN, np.ascontiguousarray(first), np.ascontiguousarray(second))


_KINDS: dict[str, Callable[..., Model]] = {
    "poly": _polynomial,
    "noise": _noise,
    "low_rank": _low_rank,
}
