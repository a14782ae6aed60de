"""The derivative of the polynomial that models a multiplier."""

from __future__ import annotations

import numpy as np

from dovetail.gradients.slopes import FloatArray
from dovetail.multipliers import Multiplier
from dovetail.multipliers.models import Polynomial

__all__ = ["polynomial_slopes"]

Pair = tuple[FloatArray, FloatArray]


def polynomial_slopes(
    mul: Multiplier, first: tuple[int, int], second: tuple[int, int]
) -> tuple[Pair, Pair]:
    """``df/da`` and ``df/dw`` of ``mul.model("poly")``, each as a product of two matrices.

    The model is ``f = sum_(i<=j) c_ij z_i z_j`` with ``z = 1, a, w, r, s``, where ``r`` and ``s``
    are ``a`` and ``w`` modulo a power of two. A remainder climbs by one a step and falls back: its
    mean slope over a period is 0, and 0 it is taken to be. So

        ``df/da = c_01 + 2 c_11 a + c_12 w + c_13 r + c_14 s``
        ``df/dw = c_02 + c_12 a + 2 c_22 w + c_23 r + c_24 s``

    >>> from dovetail.multipliers import multiplier
    >>> (left, right), _ = polynomial_slopes(multiplier("mul8s_1KVM"), (-2, 1), (3, 5))
    >>> (left @ right).round(6)[0]  # (a & ~1) w = a w - (a mod 2) w
    array([3., 4., 5.])
    """
    model = mul.model("poly")
    assert isinstance(model, Polynomial)
    c, low = model.coefficients, (1 << model.e) - 1
    a, w = (np.arange(least, most + 1) for least, most in (first, second))
    r, s = a & low, w & low
    by_first = _sum(c[0, 1] + 2 * c[1, 1] * a + c[1, 3] * r, c[1, 2] * w + c[1, 4] * s)
    by_second = _sum(c[0, 2] + c[1, 2] * a + c[2, 3] * r, 2 * c[2, 2] * w + c[2, 4] * s)
    return by_first, by_second


def _sum(of_first: FloatArray, of_second: FloatArray) -> Pair:
    left = np.stack([of_first, np.ones_like(of_first)], axis=1)
    return left, np.stack([np.ones_like(of_second), of_second])
