"""A product with something added, and ``einsum``: one matmul, with shapes moved around it."""

from __future__ import annotations

from collections import Counter
from math import prod
from typing import Any

from torch import Tensor

from dovetail.emulation.composites.base import Products, Unfused

__all__ = ["added", "einsum"]


def added(
    input: Tensor, first: Tensor, second: Tensor, *, beta: float = 1, alpha: float = 1
) -> Unfused | None:
    """``beta * input + alpha * (first @ second)``; an input with the factor 0 is not looked at."""
    if any(t.is_sparse or not t.is_floating_point() for t in (first, second)):
        return None

    def run(products: Products) -> Tensor:
        y = products.matmul(0, first, second)
        y = y if alpha == 1 else y * alpha
        if beta == 0:
            return y
        return y + (input if beta == 1 else input * beta)

    return Unfused({"matmul": 1}, run)


def einsum(equation: Any, *operands: Any) -> Unfused | None:
    """A contraction of two operands: ``matmul_0`` over all the labels that both have and the
    result has not. Diagonals, sums within an operand and ``...`` are not read."""
    if len(operands) == 1 and isinstance(operands[0], (list, tuple)):
        operands = tuple(operands[0])
    if not isinstance(equation, str) or len(operands) != 2 or "." in equation:
        return None
    left, arrow, out = equation.replace(" ", "").partition("->")
    terms = left.split(",")
    if len(terms) != 2:
        return None
    a, b = terms
    if not arrow:
        out = "".join(sorted(c for c, n in Counter(a + b).items() if n == 1))
    x, y = operands
    if not (isinstance(x, Tensor) and isinstance(y, Tensor) and x.is_floating_point()):
        return None
    batch = [c for c in out if c in a and c in b]
    summed = [c for c in a if c in b and c not in out]
    rows, columns = ([c for c in out if c in own and c not in batch] for own in (a, b))
    once = all(len(set(word)) == len(word) for word in (a, b, out))
    covered = [sorted(batch + summed + own) for own in (rows, columns)]
    if not summed or not once or covered != [sorted(a), sorted(b)]:
        return None
    if len(batch) + len(rows) + len(columns) != len(out) or (x.dim(), y.dim()) != (len(a), len(b)):
        return None
    size = dict(zip(a, x.shape, strict=True))
    if any(size.setdefault(c, n) != n for c, n in zip(b, y.shape, strict=True)):
        return None  # torch broadcasts a dimension of one, or refuses

    def run(products: Products) -> Tensor:
        lead = [size[c] for c in batch]
        depth = prod([size[c] for c in summed])
        first = x.permute([a.index(c) for c in batch + rows + summed])
        second = y.permute([b.index(c) for c in batch + summed + columns])
        result = products.matmul(
            0, first.reshape(*lead, -1, depth), second.reshape(*lead, depth, -1)
        )
        made = batch + rows + columns
        return result.reshape([size[c] for c in made]).permute([made.index(c) for c in out])

    return Unfused({"matmul": 1}, run)
