"""A gradient table as a few terms, each a function of one operand times one of the other.

``df/da(a, w) = sum_r p_r(a) q_r(w)`` makes of a gather per product a few ordinary products:

    ``grad_a[m, k] = sum_n grad_y[m, n] df/da(a[m, k], w[n, k])
                   = sum_r p_r(a[m, k]) (grad_y @ q_r(w))[m, k]``

Smoothing along ``a`` leaves the dependence on ``w`` alone, so a multiplier of rank r has slopes of
rank r at most.
"""

from __future__ import annotations

from dataclasses import dataclass
from functools import lru_cache

import numpy as np

from dovetail.errors import DovetailError
from dovetail.gradients.polynomials import polynomial_slopes
from dovetail.gradients.slopes import FloatArray, largest_window, line_slope, smoothed_slope
from dovetail.gradients.value import Gradient
from dovetail.gradients.windows import best_window
from dovetail.multipliers import Multiplier

__all__ = ["MOST", "TOLERANCE", "Terms", "slopes", "terms_of"]

Codes = tuple[int, int]
Pair = tuple[FloatArray, FloatArray]  # [codes, r] and [r, codes]: their matrix product is meant

#: What the terms may leave out of a table, as a share of its norm (Frobenius), and how many they
#: are at most; `Terms.residual` says what was left out.
TOLERANCE = 0.01
MOST = 16
_TABLE = 1024  # where there are no exact factors, operands of up to so many codes are tabulated


@dataclass(frozen=True, eq=False)
class Terms:
    """``df/da = sum_r p[r, a] q[r, w]`` and ``df/dw = sum_r u[r, a] v[r, w]``.

    float64, indexed by the code less the lowest; as many terms on both sides. ``residual``: what is
    missing of either table, as a share of its norm.
    """

    p: FloatArray
    q: FloatArray
    u: FloatArray
    v: FloatArray
    residual: tuple[float, float]

    @property
    def count(self) -> int:
        """The number of terms."""
        return len(self.p)

    def is_silent(self, place: int) -> bool:
        """Whether the first operand's code there leaves ``df/dw`` at zero, but for rounding."""
        return bool(np.abs(self.u[:, place]).max() <= 1e-9 * np.abs(self.u).max())


@lru_cache(maxsize=256)
def terms_of(
    grad: Gradient, mul: Multiplier, first: Codes, second: Codes, tolerance: float = TOLERANCE
) -> Terms | None:
    """The terms of ``grad`` for operands with codes ``first`` and ``second`` (lowest, highest).

    None: the gradient has no table, being the exact product's or ``approx``. Refused are
    multipliers of wide operands that have no exact factors, and a window that leaves nothing of the
    operands' codes.

    >>> from dovetail.gradients.value import gradient
    >>> from dovetail.multipliers import multiplier
    >>> found = terms_of(gradient("lut2d"), multiplier("mul8s_1KX5"), (-127, 127), (-127, 127))
    >>> found.count, max(found.residual) < 0.01
    (1, True)
    """
    if grad.is_straight_through or grad.is_approximate or mul.bits is None:
        return None
    by_first, by_second = slopes(grad, mul, first, second)
    sides = [_compressed(pair, tolerance) for pair in (by_first, by_second)]
    count = max(len(q) for _, q, _ in sides)
    (p, q, r0), (u, v, r1) = sides
    p, q, u, v = (_padded(side, count) for side in (p.T, q, u.T, v))
    return Terms(p, q, u, v, (r0, r1))


def slopes(grad: Gradient, mul: Multiplier, first: Codes, second: Codes) -> tuple[Pair, Pair]:
    """``df/da`` and ``df/dw`` over all codes, each as a product of two matrices.

    >>> from dovetail.multipliers import multiplier
    >>> m = multiplier("mul8s_1L2J")  # (a & ~1) (w & ~1)
    >>> (left, right), _ = slopes(Gradient("lut2d", window=1), m, (-4, 3), (-1, 2))
    >>> (left @ right)[:, 3].round(2)  # a step of 2 * 2 at every second code, smoothed over 3
    array([2.67, 1.78, 2.  , 2.  , 2.  , 2.  , 1.78, 2.67])
    """
    if grad.product == "poly":
        return polynomial_slopes(mul, first, second)
    left, right = _products(mul, first, second)
    if grad.product == "lut1d":
        return (line_slope(left), right), (left, line_slope(right.T).T)
    widths = []
    for ours, theirs, slot in ((left, right, "input"), (right.T, left.T, "weight")):
        most = largest_window(len(ours))
        if grad.window is not None and grad.window > most:
            raise DovetailError(
                f"{grad}: a window of {grad.window} is too wide for the {len(ours)} codes of the "
                f"{slot}; the widest is {most}"
            )
        widths.append(best_window(ours, theirs) if grad.window is None else grad.window)
    return (smoothed_slope(left, widths[0]), right), (left, smoothed_slope(right.T, widths[1]).T)


def _products(mul: Multiplier, first: Codes, second: Codes) -> Pair:
    """``f`` over all codes: exact factors, or the table times the identity."""
    a, w = (np.arange(low, high + 1) for low, high in (first, second))
    factors = mul.factors()
    if factors is not None:
        left, right = factors.first, factors.second
        pair = left[:, a & (left.shape[1] - 1)].T, right[:, w & (right.shape[1] - 1)]
        return pair[0].astype(np.float64), pair[1].astype(np.float64)
    if max(len(a), len(w)) > _TABLE:
        raise DovetailError(
            f"mul={mul} has no exact factors, and of operands of {len(a)} and {len(w)} codes no "
            "gradient table is made: use grad='ste'"
        )
    return mul(a[:, None], w[None]).astype(np.float64), np.eye(len(w))


def _compressed(pair: Pair, tolerance: float) -> tuple[FloatArray, FloatArray, float]:
    """The fewest terms that leave ``tolerance`` (Eckart and Young 1936), `MOST` at most."""
    (qa, ra), (qw, rw) = np.linalg.qr(pair[0]), np.linalg.qr(pair[1].T)
    left, size, right = np.linalg.svd(ra @ rw.T)
    squares = np.append(np.cumsum((size * size)[::-1])[::-1], 0.0)
    norm = np.sqrt(squares[0])
    if norm == 0:
        return np.zeros((len(pair[0]), 1)), np.zeros((1, pair[1].shape[1])), 0.0
    left_out = np.sqrt(squares) / norm
    count = min(int((left_out > max(tolerance, 1e-12)).sum()), MOST)
    root = np.sqrt(size[:count])
    p = qa @ (left[:, :count] * root)
    q = (root[:, None] * right[:count]) @ qw.T
    return p, q, float(left_out[count])


def _padded(rows: FloatArray, count: int) -> FloatArray:
    extra = np.zeros((count - len(rows), rows.shape[1]))
    return np.concatenate([rows, extra])
