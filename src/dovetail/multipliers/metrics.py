"""Errors of a multiplier against the exact product."""

from __future__ import annotations

from dataclasses import asdict, dataclass, replace
from typing import TYPE_CHECKING, Any

import numpy as np
import numpy.typing as npt
import torch

from dovetail._numbers import is_whole
from dovetail.errors import DovetailError
from dovetail.multipliers.operands import IntArray, check_operand, operand_values

if TYPE_CHECKING:
    from dovetail.multipliers.base import Multiplier

__all__ = ["ErrorMetrics", "SumErrors", "measure_errors", "measure_sums"]

SAMPLES = 1 << 20
_BLOCK = 1 << 20


@dataclass(frozen=True)
class ErrorMetrics:
    """Statistics of the error distance ``f(a, w) - a * w`` over operand pairs.

    ``mae``: mean |error| (also called MED); ``wce``: largest |error|; ``ep``: share of pairs with
    an error; ``mred``: mean of |error / product| over pairs with a non-zero product; ``bias``: mean
    error; ``variance`` of the error; ``nmed``: ``mae`` over the largest exact |product|. Shares are
    fractions, not per cent. ``method`` says which pairs were measured.
    """

    mae: float
    wce: int
    ep: float
    mred: float
    bias: float
    variance: float
    nmed: float
    method: str

    def __repr__(self) -> str:
        return (
            f"MAE {self.mae:.6g}, WCE {self.wce}, EP {self.ep:.2%}, MRED {self.mred:.3%}, "
            f"bias {self.bias:+.6g}, variance {self.variance:.6g}, NMED {self.nmed:.3g} "
            f"({self.method})"
        )

    def to_dict(self) -> dict[str, Any]:
        """All metrics by name.

        >>> from dovetail.multipliers import multiplier
        >>> multiplier("exact").errors().to_dict()["mae"]
        0.0
        """
        return asdict(self)

    def summed(self, terms: int) -> SumErrors:
        """The error of a sum of ``terms`` products whose operand pairs are drawn independently.

        >>> from dovetail.multipliers import multiplier
        >>> multiplier("mul8s_1KVM").errors().summed(64)
        SumErrors(mean=16.0, variance=174764.0)
        """
        if not is_whole(terms) or terms < 0:
            raise DovetailError(f"terms={terms!r}; give the number of products, a whole number")
        return SumErrors(terms * self.bias, terms * self.variance)


@dataclass(frozen=True, eq=False)
class SumErrors:
    """Mean and variance of the error of a sum of products: floats, or an array for many sums."""

    mean: Any
    variance: Any

    @property
    def rms(self) -> Any:
        """Root of the mean square error, ``sqrt(mean**2 + variance)``."""
        return np.sqrt(self.mean**2 + self.variance)


def measure_sums(multiplier: Multiplier, weights: Any, first_pdf: Any) -> SumErrors:
    """The error of each output of a layer; see `Multiplier.sum_errors`.

    >>> from dovetail.multipliers import multiplier
    >>> measure_sums(multiplier("mul8s_1KVM"), [[1, 1], [-4, 4]], None).mean
    array([-1.,  0.])
    """
    bits = multiplier._width()
    w = check_operand(weights, bits[1], multiplier.signed, "second (weight)")
    if w.ndim == 0:
        raise DovetailError("weights is one number; give the operand values of a layer, [..., K]")
    a = operand_values(bits[0], multiplier.signed)
    p = _weights(first_pdf, a.size, "first_pdf")
    distinct, place = np.unique(w, return_inverse=True)
    mean, square = np.zeros(distinct.size), np.zeros(distinct.size)
    rows = max(1, _BLOCK // max(distinct.size, 1))
    for start in range(0, a.size, rows):
        part = slice(start, start + rows)
        error = multiplier._product(a[part, None], distinct[None]) - a[part, None] * distinct[None]
        mean += p[part] @ error
        square += p[part] @ error.astype(np.float64) ** 2
    variance = np.maximum(square - mean**2, 0.0)
    place = place.reshape(w.shape)
    return SumErrors(mean[place].sum(axis=-1), variance[place].sum(axis=-1))


def measure_errors(
    multiplier: Multiplier, first_pdf: Any, second_pdf: Any, joint: Any = None
) -> ErrorMetrics:
    """The metrics of ``multiplier``; see `Multiplier.errors`.

    >>> from dovetail.multipliers import multiplier
    >>> measure_errors(multiplier("mul8s_1KVM"), None, None).mae
    32.0
    """
    widths = multiplier._width()
    a, w = (operand_values(bits, multiplier.signed) for bits in widths)
    p = _weights(first_pdf, a.size, "first_pdf")
    q = _weights(second_pdf, w.size, "second_pdf")
    pairs = None if joint is None else _joint(multiplier, joint, first_pdf, second_pdf)
    if pairs is not None:
        p, q = pairs.sum(axis=1), pairs.sum(axis=0)
    largest = float(np.abs(a[p > 0]).max()) * float(np.abs(w[q > 0]).max())
    if multiplier._tabulable():
        sums = _Sums()
        rows = max(1, _BLOCK // w.size)
        for start in range(0, a.size, rows):
            part = slice(start, start + rows)
            products = multiplier._product(a[part, None], w[None, :])
            weight = p[part, None] * q[None, :] if pairs is None else pairs[part]
            sums.add(products, a[part, None] * w[None, :], weight)
        return sums.metrics(largest, f"all {a.size * w.size} operand pairs")
    rng = np.random.default_rng(0)
    first, second = rng.choice(a, SAMPLES, p=p), rng.choice(w, SAMPLES, p=q)
    sums = _Sums()
    products = multiplier._product(first, second)
    sums.add(products, first * second, np.full(SAMPLES, 1 / SAMPLES))
    metrics = sums.metrics(largest, f"{SAMPLES} sampled operand pairs, seed 0")
    known = multiplier._exact_errors() if first_pdf is None and second_pdf is None else {}
    if known:
        method = f"{metrics.method}; {', '.join(sorted(known))} in closed form"
        metrics = replace(metrics, **known, method=method)
        metrics = replace(metrics, nmed=metrics.mae / largest)
    return metrics


class _Sums:
    """Weighted sums over blocks of operand pairs; the weights of all blocks add up to one."""

    def __init__(self) -> None:
        self.absolute = self.signed = self.square = self.changed = 0.0
        self.relative = self.nonzero = 0.0
        self.worst = 0

    def add(self, products: IntArray, exact: IntArray, weight: npt.NDArray[np.float64]) -> None:
        error = products - exact
        distance = np.abs(error)
        counted = weight > 0
        self.worst = max(self.worst, int(np.max(distance, where=counted, initial=0)))
        self.absolute += float((distance * weight).sum())
        self.signed += float((error * weight).sum())
        self.square += float((error.astype(np.float64) ** 2 * weight).sum())
        self.changed += float(weight[np.broadcast_to(error != 0, weight.shape)].sum())
        magnitude = np.abs(exact)
        present = magnitude != 0
        self.relative += float((distance[present] / magnitude[present] * weight[present]).sum())
        self.nonzero += float(weight[present].sum())

    def metrics(self, largest: float, method: str) -> ErrorMetrics:
        return ErrorMetrics(
            mae=self.absolute,
            wce=self.worst,
            ep=self.changed,
            mred=self.relative / self.nonzero if self.nonzero else 0.0,
            bias=self.signed,
            variance=max(0.0, self.square - self.signed**2),
            nmed=self.absolute / largest if largest else 0.0,
            method=method,
        )


def _joint(
    multiplier: Multiplier, joint: Any, first_pdf: Any, second_pdf: Any
) -> npt.NDArray[np.float64]:
    """A probability for each pair of codes."""
    if first_pdf is not None or second_pdf is not None:
        raise DovetailError("joint= holds both distributions; leave first_pdf and second_pdf out")
    shape = tuple(1 << bits for bits in multiplier._width())
    if not multiplier._tabulable():
        raise DovetailError(f"{multiplier!r} has too many operand pairs for joint=; give the pdfs")
    given = joint.detach().cpu().numpy() if isinstance(joint, torch.Tensor) else np.asarray(joint)
    if given.shape != shape:
        raise DovetailError(
            f"joint has shape {list(given.shape)}; expected {list(shape)}, a weight for each pair"
        )
    return _weights(given.ravel(), given.size, "joint").reshape(shape)


def _weights(pdf: Any, codes: int, name: str) -> npt.NDArray[np.float64]:
    """A probability for each code: uniform, or the given weights divided by their sum."""
    if pdf is None:
        return np.full(codes, 1.0 / codes)
    values = pdf.detach().cpu().numpy() if isinstance(pdf, torch.Tensor) else np.asarray(pdf)
    if values.shape != (codes,):
        raise DovetailError(
            f"{name} has shape {list(values.shape)}; expected [{codes}], a weight for each code"
        )
    weights = values.astype(np.float64)
    if not np.isfinite(weights).all() or (weights < 0).any() or weights.sum() == 0:
        raise DovetailError(f"{name} must hold finite, non-negative weights, not all zero")
    return np.asarray(weights / weights.sum())
