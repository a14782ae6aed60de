"""The one door to faster forms: in eager mode, where nobody asks for a gradient of their own.

Both forms are bit-equal to :mod:`dovetail.approximations.reference`.
"""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any

from torch import Tensor

from dovetail.approximations.chunks import is_plain

if TYPE_CHECKING:
    from dovetail.approximations.base import Approximation

__all__ = ["Kernel", "NormOf", "found", "register_computation"]


@dataclass(frozen=True, eq=False)
class NormOf:
    """What a normalisation of rows is given: weight and bias are flat float64 tensors, rounded."""

    centred: bool
    eps: float
    weight: Tensor | None
    bias: Tensor | None


Kernel = Callable[["Approximation", Tensor, Any], "Tensor | None"]
_kernels: list[Kernel] = []


def register_computation(kernel: Kernel) -> Kernel:
    """Decorator: a faster ``(approximation, x, what) -> Tensor``, or None where it does not apply.

    ``what`` is the :class:`Function` of an approximation of one variable, for ``x`` of any shape;
    None for a softmax and :class:`NormOf` for a normalisation, of the rows of ``x [rows, n]``. The
    result has the dtype of ``x``.
    """
    _kernels.insert(0, kernel)
    return kernel


def found(approximation: Approximation, x: Tensor, what: Any) -> Tensor | None:
    """The result of a faster form, or None if there is none."""
    if not is_plain(x):
        return None
    for kernel in _kernels:
        y = kernel(approximation, x, what)
        if y is not None:
            return y
    return None
