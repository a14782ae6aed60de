"""The backward pass of products whose operands were cast.

``y = sum_k f(x_k, w_k)`` is differentiated by terms, each a function of one operand times one of
the other: ``df/dx = sum_r p_r(x) q_r(w)`` and ``df/dw = sum_r u_r(x) v_r(w)``. Of the exact product
of cast operands there is one, with the coefficients ``p = v = 1``. How a gradient passes back
through a cast is the operand's own affair.
"""

from __future__ import annotations

from collections.abc import Iterable, Sequence
from dataclasses import replace
from typing import Generic, NamedTuple, Protocol, TypeVar

import torch
import torch.nn.functional as F
from torch import Tensor

from dovetail.kernels.geometry import Geometry

__all__ = [
    "ExactProduct",
    "Grads",
    "Operand",
    "Product",
    "Term",
    "conv",
    "flat_padding",
    "linear",
    "matmul",
]

Grads = tuple[Tensor | None, ...]


class Operand(Protocol):
    """One operand of a product; ``value`` is what the cast left, in the product's dtype."""

    x: Tensor

    @property
    def value(self) -> Tensor: ...

    def through(self, grad: Tensor) -> Tensor:
        """The gradient by ``x``, given that by what the cast left."""


Side = TypeVar("Side", bound=Operand)


class Term(NamedTuple):
    """What stands for each operand in the gradient by the other, and what that is multiplied by.

    In the product's dtype. None: for an operand that the gradient to the other is not asked of;
    for a coefficient, one.
    """

    first: Tensor | None  # u, as the first operand; padded already where the product says so
    second: Tensor | None  # q, as the second operand
    by_first: Tensor | None = None  # p
    by_second: Tensor | None = None  # v


class Product(Protocol):
    """Two operands, and how their product is differentiated.

    ``dtype`` is the product's: under autocast it may be wider than an operand's. ``padded`` says
    whether terms hold the padding of a convolution's input.
    """

    @property
    def first(self) -> Operand: ...

    @property
    def second(self) -> Operand: ...

    @property
    def dtype(self) -> torch.dtype: ...

    @property
    def padded(self) -> bool: ...

    def terms(self, needed: Sequence[bool]) -> Iterable[Term]:
        """The terms, of which only the gradients ``needed`` (by first, by second) are used."""


class ExactProduct(Generic[Side]):
    """The exact product of the cast operands: the straight-through estimator."""

    padded = False

    def __init__(self, first: Side, second: Side, dtype: torch.dtype) -> None:
        self.first, self.second, self.dtype = first, second, dtype

    def terms(self, needed: Sequence[bool]) -> Iterable[Term]:
        """Each operand's value stands for itself."""
        first = self.first.value if needed[1] else None
        return [Term(first, self.second.value if needed[0] else None)]


def linear(grad: Tensor, product: Product, bias: Tensor | None, needed: Sequence[bool]) -> Grads:
    """Gradients of ``y [..., N]`` by ``x [..., K]``, ``weight [N, K]`` and ``bias [N]``."""
    grad = grad.to(product.dtype)
    rows, depth = grad.reshape(-1, grad.shape[-1]), product.first.x.shape[-1]
    gx = gw = None
    for term in product.terms(needed):
        if term.second is not None:
            gx = _plus(gx, grad @ term.second, term.by_first)
        if term.first is not None:
            gw = _plus(gw, rows.mT @ term.first.reshape(-1, depth), term.by_second)
    gb = rows.sum(0).to(bias.dtype) if bias is not None and needed[2] else None
    return *_through(product, gx, gw), gb


def conv(
    grad: Tensor,
    product: Product,
    bias: Tensor | None,
    geometry: Geometry,
    needed: Sequence[bool],
) -> Grads:
    """Gradients of a convolution; a padded pixel takes no gradient."""
    grad = grad.to(product.dtype).contiguous()
    x, w = product.first.x, product.second.x
    moves = geometry
    if product.padded:
        moves = replace(geometry, padding=((0, 0),) * geometry.spatial)
    gx = gw = gb = None
    for term in product.terms(needed):
        whole = not product.padded and None not in (term.first, term.second)
        by_first, by_second = (
            _conv_by_both(grad, term, x, geometry)
            if whole
            else _conv_apart(grad, term, x, w, geometry, moves)
        )
        if by_first is not None:
            gx = _plus(gx, by_first, term.by_first)
        if by_second is not None:
            gw = _plus(gw, by_second, term.by_second)
    if bias is not None and needed[2]:
        gb = grad.sum([d for d in range(grad.dim()) if d != 1]).to(bias.dtype)
    return *_through(product, gx, gw), gb


def _conv_apart(
    grad: Tensor, term: Term, x: Tensor, w: Tensor, geometry: Geometry, moves: Geometry
) -> tuple[Tensor | None, Tensor | None]:
    """A term's part of the gradients by an input of ``x``'s shape and a weight of ``w``'s; that by
    the weight moves its window as ``moves`` says."""
    gx: Tensor | None = None
    gw: Tensor | None = None
    if term.second is not None:
        low, pads = _evenly(geometry)
        padded = _padded(x.to(grad.dtype), pads)
        whole = _conv_backward(grad, padded, term.second, geometry, low, (True, False))[0]
        gx = _padded(whole, [-p for p in pads])
    if term.first is not None:
        low, pads = _evenly(moves)
        first = _padded(term.first, pads)
        gw = _conv_backward(grad, first, w.to(grad.dtype), moves, low, (False, True))[1]
    return gx, gw


def _conv_by_both(grad: Tensor, term: Term, x: Tensor, geometry: Geometry) -> tuple[Tensor, Tensor]:
    """The same in one pass over ``grad``, of a term without padding of its own."""
    assert term.first is not None
    assert term.second is not None
    low, pads = _evenly(geometry)
    first = _padded(term.first.view(x.shape), pads)
    gx, gw = _conv_backward(grad, first, term.second, geometry, low, (True, True))
    return _padded(gx, [-p for p in pads]), gw


def _evenly(geometry: Geometry) -> tuple[Sequence[int], list[int]]:
    """The padding as torch takes it, equal on both sides, and what has to be padded before."""
    lows, highs = zip(*geometry.padding, strict=True)
    if lows == highs:
        return lows, []
    return (0,) * geometry.spatial, flat_padding(geometry)


def _padded(x: Tensor, pads: list[int]) -> Tensor:
    return F.pad(x, pads) if pads else x  # torch copies what it pads by nothing


def _conv_backward(
    grad: Tensor,
    x: Tensor,
    weight: Tensor,
    geometry: Geometry,
    padding: Sequence[int],
    wanted: tuple[bool, bool],
) -> tuple[Tensor, Tensor]:
    gx, gw, _ = torch.ops.aten.convolution_backward(
        grad,
        x,
        weight,
        None,
        list(geometry.stride),
        list(padding),
        list(geometry.dilation),
        False,
        [0] * geometry.spatial,
        geometry.groups,
        [*wanted, False],
    )
    return gx, gw


def matmul(grad: Tensor, product: Product, needed: Sequence[bool]) -> Grads:
    """Gradients of ``x [..., M, K] @ weight [..., K, N]`` with broadcast leading dimensions."""
    grad = grad.to(product.dtype)
    gx = gw = None
    for term in product.terms(needed):
        if term.second is not None:
            by_x = (grad @ term.second.mT).sum_to_size(product.first.x.shape)
            gx = _plus(gx, by_x, term.by_first)
        if term.first is not None:
            by_w = (term.first.mT @ grad).sum_to_size(product.second.x.shape)
            gw = _plus(gw, by_w, term.by_second)
    return _through(product, gx, gw)


def flat_padding(geometry: Geometry) -> list[int]:
    """The padding as ``F.pad`` takes it.

    >>> flat_padding(Geometry.conv(2, padding=[(1, 2), (3, 4)]))
    [3, 4, 1, 2]
    """
    return [p for pair in reversed(geometry.padding) for p in pair]


def _plus(total: Tensor | None, part: Tensor, coefficient: Tensor | None) -> Tensor:
    if total is None:
        return part if coefficient is None else part * coefficient
    return total + part if coefficient is None else torch.addcmul(total, part, coefficient)


def _through(
    product: Product, gx: Tensor | None, gw: Tensor | None
) -> tuple[Tensor | None, Tensor | None]:
    return (
        None if gx is None else product.first.through(gx),
        None if gw is None else product.second.through(gw),
    )
