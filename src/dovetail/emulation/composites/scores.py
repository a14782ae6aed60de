"""Attention's scores, from the first product to the weights of the second."""

from __future__ import annotations

import math
from dataclasses import dataclass

import torch
import torch.nn.functional as F
from torch import Tensor

from dovetail.emulation.composites.base import Products
from dovetail.emulation.operators.base import OpCall

__all__ = ["Mask", "attend", "counts", "drop"]


@dataclass(frozen=True)
class Mask:
    """What is added to the scores, and where (True) a query may not look at all."""

    added: Tensor | None = None
    hidden: Tensor | None = None

    @classmethod
    def of(cls, mask: Tensor, dtype: torch.dtype) -> Mask:
        """A mask as ``scaled_dot_product_attention`` takes it: True is open, or numbers to add."""
        if mask.dtype == torch.bool:
            return cls(None, ~mask)
        return cls(mask.to(dtype), None)

    def and_(self, other: Mask) -> Mask:
        """Both masks at once."""
        added, hidden = self.added, self.hidden
        if other.added is not None:
            added = other.added if added is None else added + other.added
        if other.hidden is not None:
            hidden = other.hidden if hidden is None else hidden | other.hidden
        return Mask(added, hidden)


def counts(mask: Mask | None, dropout: float) -> dict[str, int]:
    """How many operations of each kind there are in one attention."""
    found = {"matmul": 2, "mul": 1, "softmax": 1}
    if mask is not None and mask.added is not None:
        found["add"] = 1
    if dropout > 0:
        found["dropout"] = 1
    return found


def attend(
    products: Products, query: Tensor, key: Tensor, mask: Mask | None, scale: float, safe: bool
) -> Tensor:
    """Where each query looks. A query that may look nowhere looks at nothing if ``safe``, and
    else gives NaN: torch has both."""
    scores = products.matmul(0, query, key.mT)
    scores = products.perform(0, OpCall("mul", {"input": scores}, torch.mul, {"other": scale}))
    if mask is None:
        return _softmax(products, scores)
    if mask.added is not None:
        operands = {"input": scores, "other": mask.added}
        scores = products.perform(0, OpCall("add", operands, torch.add))
    if mask.hidden is not None:
        scores = scores.masked_fill(mask.hidden, -math.inf)
    if not safe:
        return _softmax(products, scores)
    nowhere = (scores == -math.inf).all(-1, keepdim=True)
    # Filled before as well as after: the gradient of such a row's softmax would be NaN.
    return _softmax(products, scores.masked_fill(nowhere, 0.0)).masked_fill(nowhere, 0.0)


def drop(products: Products, weights: Tensor, rate: float) -> Tensor:
    """Dropout of the attention weights."""
    if rate == 0:
        return weights
    attributes = {"p": rate, "training": True}
    return products.perform(0, OpCall("dropout", {"input": weights}, F.dropout, attributes))


def _softmax(products: Products, scores: Tensor) -> Tensor:
    return products.perform(0, OpCall("softmax", {"input": scores}, F.softmax, {"dim": -1}))
