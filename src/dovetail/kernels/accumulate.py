"""Accumulators over products that are formed a few k at a time, all outputs at once, in torch.

Every accumulator, on every device; bit-equal to :mod:`dovetail.kernels.accumulate_reference`.
"""

from __future__ import annotations

from collections.abc import Callable, Iterator
from dataclasses import dataclass
from math import prod
from typing import NamedTuple

import torch
from torch import Tensor

from dovetail.accumulators import Accumulator
from dovetail.errors import DovetailError

__all__ = ["Products", "Totals", "accumulate", "additions", "over_matrices", "term_length"]

_SLAB = 1 << 20  # products held at once


@dataclass(frozen=True)
class Products:
    """``slab(start, stop)``: the products of these k, ``[stop - start, *shape]``.

    ``bound`` is a bound of integer products' magnitude, ``None`` for floating-point ones.
    """

    length: int
    shape: tuple[int, ...]
    bound: int | None
    slab: Callable[[int, int], Tensor]

    def slabs(self) -> Iterator[Tensor]:
        """All products, in order."""
        step = max(1, _SLAB // max(1, prod(self.shape)))
        for start in range(0, self.length, step):
            yield self.slab(start, min(start + step, self.length))


class Totals(NamedTuple):
    """What the registers hold, and how many of the ``additions`` into each exceeded its range."""

    total: Tensor
    overflows: Tensor | None
    additions: int


def term_length(acc: Accumulator, depth: int) -> int | None:
    """How many of ``depth`` products make one term; ``None``: each is one, none is summed.

    >>> from dovetail.accumulators import accumulator
    >>> [term_length(accumulator(a), 10) for a in ("fp16", "fp16(end)", "fp16(chunk=4)")]
    [None, 10, 4]
    """
    return depth if acc.when == "end" else acc.chunk


def additions(acc: Accumulator, depth: int) -> int:
    """How many sums enter the register, of ``depth`` products.

    >>> from dovetail.accumulators import accumulator
    >>> [additions(accumulator(a), 10) for a in ("fp16", "fp16(tree)", "fp16(order=chunk(3))")]
    [10, 9, 14]
    """
    terms = -(-depth // (term_length(acc, depth) or 1)) if depth else 0
    if acc.order == "tree":
        return max(terms - 1, min(terms, 1))
    return terms + (-(-terms // acc.run) if acc.run else 0)


def over_matrices(a: Tensor, w: Tensor, each: Callable[[Tensor, Tensor], Totals]) -> Totals:
    """``each`` on every pair of matrices of ``a [..., M, K]`` and ``w [..., N, K]``, broadcast.

    >>> over_matrices(torch.ones(2, 1, 3), torch.ones(4, 3),
    ...               lambda a, w: Totals(a @ w.mT, None, 3)).total.shape
    torch.Size([2, 1, 4])
    """
    if w.dim() == 2:
        return each(a, w)
    batch = torch.broadcast_shapes(a.shape[:-2], w.shape[:-2])
    lefts, rights = (x.expand(*batch, *x.shape[-2:]).flatten(0, -3) for x in (a, w))
    found = [each(left, right) for left, right in zip(lefts, rights, strict=True)]
    shape = (*batch, a.shape[-2], w.shape[-2])
    if not found:
        return Totals(a.new_zeros(shape), w.new_zeros(shape, dtype=torch.int64), 0)
    counts = [one.overflows for one in found if one.overflows is not None]
    total = torch.stack([one.total for one in found]).reshape(shape)
    overflows = torch.stack(counts).reshape(shape) if counts else None
    return Totals(total, overflows, found[0].additions)


def accumulate(
    products: Products, acc: Accumulator, device: torch.device, *, counting: bool = False
) -> Totals:
    """Every output's products through its register; ``counting`` also counts overflows.

    >>> from dovetail.accumulators import accumulator
    >>> steps = torch.tensor([[100], [100], [-100]])
    >>> products = Products(3, (1,), 100, lambda start, stop: steps[start:stop])
    >>> accumulate(products, accumulator("int8(saturate)"), steps.device, counting=True)
    Totals(total=tensor([27]), overflows=tensor([1]), additions=3)
    """
    return _Registers(products, acc, device, counting).totals()


class _Registers:
    """One accumulation under way."""

    def __init__(
        self, products: Products, acc: Accumulator, device: torch.device, counting: bool
    ) -> None:
        self.products, self.acc = products, acc
        wide = term_length(acc, products.length) or 1
        if products.bound is not None and products.bound * wide >= 2**62:
            raise DovetailError(
                f"accumulator '{acc}': sums of {wide} products of up to {products.bound} are "
                "beyond 62 bits"
            )
        term = None if products.bound is None else products.bound * wide
        self.zero = torch.zeros(products.shape, dtype=acc.dtype_for(term), device=device)
        self.overflows = torch.zeros_like(self.zero, dtype=torch.int64) if counting else None

    def totals(self) -> Totals:
        acc = self.acc
        if acc.order == "tree":
            total = self._tree(self._terms())
        elif acc.run is not None:
            total = self._runs(self._terms(), acc.run)
        else:
            total = self.zero
            for term in self._terms():
                total = self._add(total, term)
        return Totals(total.to(acc.dtype), self.overflows, additions(acc, self.products.length))

    def _add(self, register: Tensor, term: Tensor) -> Tensor:
        if self.overflows is not None:
            self.overflows += self.acc.exceeds(register, term)
        return self.acc.add(register, term)

    def _slabs(self) -> Iterator[Tensor]:
        return (slab.to(self.zero.dtype) for slab in self.products.slabs())

    def _terms(self) -> Iterator[Tensor]:
        """The products, or the wide sums of each chunk of them."""
        chunk = term_length(self.acc, self.products.length)
        wide, held = self.zero, 0
        for slab in self._slabs():
            for term in slab.unbind(0):
                if chunk is None:
                    yield term
                    continue
                wide, held = wide + term, held + 1
                if held == chunk:
                    yield wide
                    wide, held = self.zero, 0
        if held:
            yield wide

    def _tree(self, terms: Iterator[Tensor]) -> Tensor:
        """Complete subtrees wait for a neighbour of their size; the rest is joined from the end."""
        waiting: list[tuple[int, Tensor]] = []
        for term in terms:
            size, sums = 1, term
            while waiting and waiting[-1][0] == size:
                sums = self._add(waiting.pop()[1], sums)
                size *= 2
            waiting.append((size, sums))
        if not waiting:
            return self.zero
        size, total = waiting.pop()
        if size == 1 and not waiting:
            return self._add(self.zero, total)
        while waiting:
            total = self._add(waiting.pop()[1], total)
        return total

    def _runs(self, terms: Iterator[Tensor], length: int) -> Tensor:
        total, register, held = self.zero, self.zero, 0
        for term in terms:
            register, held = self._add(register, term), held + 1
            if held == length:
                total, register, held = self._add(total, register), self.zero, 0
        return self._add(total, register) if held else total
