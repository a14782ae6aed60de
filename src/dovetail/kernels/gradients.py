"""What the backward pass of an emulated layer computes.

With ``xq``, ``wq`` the operands as the casts left them, ``xq = s_x (a - z_x)`` for a code ``a``:

* ``ste``: ``y = sum_k xq * wq`` is differentiated exactly (Bengio et al., arXiv 1308.3432); the
  multiplier's error is invisible to it.
* A gradient of the multiplier, ``df/da`` and ``df/dw`` over its codes (:mod:`dovetail.gradients`):
  ``dy/dxq = s_w (df/da - z_w)`` and ``dy/dwq = s_x (df/dw - z_x)``. A padded pixel has the code
  ``z_x``. Of the exact product this is ``ste``.
* ``approx``: as ``ste``, with backward products that are the multiplier's
  (:mod:`dovetail.kernels.approximate_backward`).

Then each cast passes its gradient straight through where it did not clip (as in PACT, arXiv
1805.06085), or everywhere if the arithmetic says ``unclipped``; and to its scale, if that is
learned (:mod:`dovetail.kernels.learned_steps`).
"""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from itertools import zip_longest

import torch
import torch.nn.functional as F
from torch import Tensor

from dovetail.arithmetic import Arithmetic
from dovetail.formats import IntFormat
from dovetail.kernels import approximate_backward, backward
from dovetail.kernels.approximate_backward import ApproximateProduct
from dovetail.kernels.backward import ExactProduct, Grads, Term, flat_padding
from dovetail.kernels.cast_operands import CastOperand, Ranges
from dovetail.kernels.geometry import LINEAR, Geometry
from dovetail.kernels.slope_library import slopes, terms_for

__all__ = ["conv", "linear", "matmul", "product_of_codes"]


class TableProduct:
    """A multiplier's product of two cast operands, with the terms of its gradient table."""

    def __init__(
        self, first: CastOperand, second: CastOperand, rule: Arithmetic, geometry: Geometry
    ) -> None:
        self.first, self.second, self.dtype = first, second, first.dtype
        self.spelling, self.geometry = rule.spelling, geometry
        terms = terms_for(rule)
        assert terms is not None
        silent = not first.fmt.affine and terms.is_silent(-first.fmt.qmin)
        self.padded = not silent and any(p for pair in geometry.padding for p in pair)

    def terms(self, needed: Sequence[bool]) -> Iterator[Term]:
        """See :class:`dovetail.kernels.backward.Product`."""
        a, w = self.first, self.second
        x = F.pad(a.x, flat_padding(self.geometry)) if self.padded else a.x
        p, q = self._parts(needed[0], (a, a.x, "p"), (w, w.x, "q"))
        u, v = self._parts(needed[1], (a, x, "u"), (w, w.x, "v"))
        for parts in zip_longest(u, q, p, v):
            yield Term(*parts)
        by_zero = a.fmt.affine and needed[1], w.fmt.affine and needed[0]
        if any(by_zero):
            yield Term(
                a.offset.expand(x.shape) if by_zero[0] else None,
                w.offset.expand(w.x.shape) if by_zero[1] else None,
            )

    def _parts(
        self, needed: bool, *parts: tuple[CastOperand, Tensor, str]
    ) -> list[tuple[Tensor, ...]]:
        """Each operand's part of the terms, at the codes of the tensor that stands for it."""
        if not needed:
            return [()] * len(parts)
        return [
            slopes(tensor, of.scale, of.zero, self.spelling, part).to(self.dtype).unbind()
            for of, tensor, part in parts
        ]


CodeProduct = ExactProduct[CastOperand] | TableProduct | ApproximateProduct


def product_of_codes(
    x: Tensor,
    w: Tensor,
    ranges: Ranges,
    rule: Arithmetic,
    geometry: Geometry = LINEAR,
    second: str = "weight",
) -> CodeProduct:
    """The product as the backward pass sees it; ``second`` is the second operand's slot."""
    assert isinstance(rule.input, IntFormat)
    assert isinstance(rule.weight, IntFormat)
    grad, dtype = rule.grad, torch.promote_types(x.dtype, w.dtype)
    first = CastOperand(x, rule.input, "input", ranges[:2], grad, dtype)
    other = CastOperand(w, rule.weight, second, ranges[2:], grad, dtype)
    if rule.gradient_format is not None:
        return ApproximateProduct(first, other, dtype, rule)
    if terms_for(rule) is None:
        return ExactProduct(first, other, dtype)
    return TableProduct(first, other, rule, geometry)


def linear(
    grad: Tensor,
    x: Tensor,
    weight: Tensor,
    bias: Tensor | None,
    ranges: Ranges,
    arithmetic: Arithmetic,
    needed: Sequence[bool],
) -> tuple[Grads, Grads]:
    """See :func:`dovetail.kernels.backward.linear`; and the gradients by learned scales."""
    product = product_of_codes(x, weight, ranges, arithmetic)
    if isinstance(product, ApproximateProduct):
        found = approximate_backward.linear(grad, product, bias, needed)
    else:
        found = backward.linear(grad, product, bias, needed)
    return found, _by_steps(product)


def conv(
    grad: Tensor,
    x: Tensor,
    weight: Tensor,
    bias: Tensor | None,
    ranges: Ranges,
    arithmetic: Arithmetic,
    geometry: Geometry,
    needed: Sequence[bool],
) -> tuple[Grads, Grads]:
    """See :func:`dovetail.kernels.backward.conv`; and the gradients by learned scales."""
    product = product_of_codes(x, weight, ranges, arithmetic, geometry)
    if isinstance(product, ApproximateProduct):
        found = approximate_backward.conv(grad, product, bias, geometry, needed)
    else:
        found = backward.conv(grad, product, bias, geometry, needed)
    return found, _by_steps(product)


def matmul(
    grad: Tensor,
    x: Tensor,
    weight: Tensor,
    ranges: Ranges,
    arithmetic: Arithmetic,
    needed: Sequence[bool],
) -> tuple[Grads, Grads]:
    """See :func:`dovetail.kernels.backward.matmul`; and the gradients by learned scales."""
    product = product_of_codes(x, weight, ranges, arithmetic, second="second")
    if isinstance(product, ApproximateProduct):
        found = approximate_backward.matmul(grad, product, needed)
    else:
        found = backward.matmul(grad, product, needed)
    return found, _by_steps(product)


def _by_steps(product: CodeProduct) -> Grads:
    """By the four ranges: scale and zero point of either operand."""
    return product.first.step_grad, None, product.second.step_grad, None
