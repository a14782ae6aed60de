"""Accumulators over products that are formed a few k at a time, all outputs at once.

``plan_accumulated`` decides how much of that is needed: nothing where the accumulator provably
changes nothing, one step behind the fast sums where it wraps or acts at the end, and otherwise the
loop over k of this module. Bit-equal to :mod:`dovetail.kernels.accumulate_reference`.
"""

from __future__ import annotations

from collections.abc import Callable, Iterator
from dataclasses import dataclass
from functools import lru_cache
from itertools import product
from math import prod
from typing import Any, NamedTuple

import torch
from torch import Tensor

from dovetail.accumulators import Accumulator
from dovetail.errors import DovetailError
from dovetail.kernels.accumulate_reference import LoopedMac
from dovetail.kernels.geometry import Geometry
from dovetail.kernels.planner import plan_mac
from dovetail.kernels.realisation import MacKernel, Operands, forced
from dovetail.kernels.torch_kernels import pad_codes
from dovetail.multipliers import Multiplier, multiplier

__all__ = [
    "AccumulatedMac",
    "Products",
    "Totals",
    "accumulate",
    "code_products",
    "columns",
    "plan_accumulated",
]

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
        wide = products.length if acc.when == "end" else acc.chunk or 1
        if products.bound is not None and products.bound * wide >= 2**62:
            raise DovetailError(
                f"accumulator '{acc}': sums of {wide} products of up to {products.bound} are "
                "beyond 62 bits"
            )
        term = None if products.bound is None else products.bound * wide
        self.zero = torch.zeros(products.shape, dtype=acc.dtype_for(term), device=device)
        self.overflows = torch.zeros_like(self.zero, dtype=torch.int64) if counting else None
        self.additions = 0

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
        return Totals(total.to(acc.dtype), self.overflows, self.additions)

    def _add(self, register: Tensor, term: Tensor) -> Tensor:
        self.additions += 1
        if self.overflows is not None:
            self.overflows += self.acc.exceeds(register, term)
        return self.acc.add(register, term)

    def _slabs(self) -> Iterator[Tensor]:
        return (slab.to(self.zero.dtype) for slab in self.products.slabs())

    def _terms(self) -> Iterator[Tensor]:
        """The products, or the wide sums of each chunk of them."""
        chunk = self.products.length if self.acc.when == "end" else self.acc.chunk
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


# What is multiplied with what ---------------------------------------------------------------------


class Columns(NamedTuple):
    """Operands by k: ``first(ks)`` and ``second(ks)`` broadcast to ``[len(ks), *shape]``."""

    length: int
    shape: tuple[int, ...]
    first: Callable[[int, int], Tensor]
    second: Callable[[int, int], Tensor]


def columns(a: Tensor, w: Tensor, geometry: Geometry, pad: int = 0) -> Columns:
    """The operands of a convolution, or of ``a [..., M, K] @ w [..., K, N]``.

    >>> from dovetail.kernels.geometry import LINEAR
    >>> columns(torch.zeros(5, 3), torch.zeros(3, 2), LINEAR).shape
    (5, 2)
    """
    if geometry.spatial == 0:
        rows, cols = a.movedim(-1, 0).unsqueeze(-1), w.movedim(-2, 0).unsqueeze(-2)
        while rows.dim() < cols.dim():
            rows = rows.unsqueeze(1)
        while cols.dim() < rows.dim():
            cols = cols.unsqueeze(1)
        shape = tuple(torch.broadcast_shapes(rows.shape[1:], cols.shape[1:]))
        return Columns(a.shape[-1], shape, lambda i, j: rows[i:j], lambda i, j: cols[i:j])
    out = geometry.out_shape(a.shape, w.shape)
    groups, per_group = geometry.groups, w.shape[0] // geometry.groups
    image = pad_codes(a, geometry, pad)
    image = image.reshape(a.shape[0], groups, 1, w.shape[1], *image.shape[2:])
    places = list(product(range(w.shape[1]), *map(range, w.shape[2:])))
    weights = w.reshape(groups, per_group, -1).movedim(-1, 0)
    weights = weights[(..., *[None] * geometry.spatial)].unsqueeze(1)

    def first(start: int, stop: int) -> Tensor:
        return torch.stack([_pixels(image, place, geometry, out) for place in places[start:stop]])

    shape = (a.shape[0], groups, per_group, *out[2:])
    return Columns(len(places), shape, first, lambda i, j: weights[i:j])


def _pixels(
    image: Tensor, place: tuple[int, ...], geometry: Geometry, out: tuple[int, ...]
) -> Tensor:
    """The pixels that meet one weight in every output: ``[B, groups, 1, *out]``."""
    channel, *taps = place
    window: list[Any] = [
        slice(tap * d, tap * d + (size - 1) * s + 1, s)
        for tap, d, s, size in zip(taps, geometry.dilation, geometry.stride, out[2:], strict=True)
    ]
    index: tuple[Any, ...] = (..., *window)
    return image.select(3, channel)[index]


def code_products(
    a: Tensor, w: Tensor, mul: Multiplier, bound: int, geometry: Geometry, pad_code: int
) -> Products:
    """Every ``f(a, w)`` of a linear layer's or a convolution's codes."""
    second = w.mT if geometry.spatial == 0 else w
    cols = columns(torch.atleast_2d(a), second, geometry, pad_code)
    f = _product_of(mul, torch.int32 if bound < 2**31 else torch.int64)
    return Products(
        cols.length, cols.shape, bound, lambda i, j: f(cols.first(i, j), cols.second(i, j))
    )


def _product_of(mul: Multiplier, dtype: torch.dtype) -> Callable[[Tensor, Tensor], Tensor]:
    """``f`` on tensors that broadcast: multiplied, looked up, or evaluated."""
    if mul.bits is None:
        return lambda a, w: a.to(dtype) * w.to(dtype)
    if sum(mul.bits) > 16:
        return lambda a, w: torch.as_tensor(mul(a.cpu().numpy(), w.cpu().numpy()), device=a.device)
    table = mul.table()
    rows, width = table.shape

    def look_up(a: Tensor, w: Tensor) -> Tensor:
        index = (a.to(torch.int64) & (rows - 1)) * width + (w.to(torch.int64) & (width - 1))
        return table.to(a.device).flatten()[index]

    return look_up


# As kernels ---------------------------------------------------------------------------------------


class _Packed(NamedTuple):
    """A weight's codes, and the same packed for the sums and for the sums of magnitudes."""

    codes: Tensor
    exact: Any
    magnitudes: Any


class AccumulatedMac(MacKernel):
    """Products step by step through the accumulator, unless none of the sums can overflow.

    Whatever the order, no partial sum of an output exceeds the sum of its products' magnitudes;
    where the register holds the largest of those, the fast exact sums are the result.
    """

    name = "torch-accumulated"

    def __init__(self, mul: Multiplier, operands: Operands, acc: Accumulator) -> None:
        self.mul, self.acc, self.bound = mul, acc, operands.bound(mul)
        magnitudes = _magnitudes(mul, operands) if acc.holds(0) else None
        self.exact = None if magnitudes is None else plan_mac(mul, operands)
        self.magnitudes = None if magnitudes is None else plan_mac(magnitudes, operands)

    def pack(self, w: Tensor, geometry: Geometry) -> _Packed:
        if self.exact is None or self.magnitudes is None:
            return _Packed(w, None, None)
        return _Packed(w, self.exact.pack(w, geometry), self.magnitudes.pack(w, geometry))

    def sums(self, a: Tensor, packed: _Packed, geometry: Geometry, pad_code: int) -> Tensor:
        shape = geometry.out_shape(a.shape, packed.codes.shape)
        if self.exact is not None and self.magnitudes is not None and 0 not in shape:
            largest = self.magnitudes.sums(a, packed.magnitudes, geometry, pad_code).max()
            if self.acc.holds(int(largest)):
                exact = self.exact.sums(a, packed.exact, geometry, pad_code)
                return exact.to(self.acc.dtype)
        products = code_products(a, packed.codes, self.mul, self.bound, geometry, pad_code)
        return accumulate(products, self.acc, a.device).total.reshape(shape)


@lru_cache(maxsize=64)
def _magnitudes(mul: Multiplier, operands: Operands) -> Multiplier | None:
    """``|f|`` as a multiplier, for tables of up to 8 + 8 bits."""
    if mul.bits is None:
        lows, highs = zip(operands.first, operands.second, strict=True)
        if not (min(lows) >= -128 and max(highs) <= (127 if min(lows) < 0 else 255)):
            return None
        mul = mul.bind(8, signed=min(lows) < 0)
    if mul.bits is None or sum(mul.bits) > 16:
        return None
    return multiplier(mul.table().abs().numpy(), bits=mul.bits, signed=mul.signed)


class ReducedMac(MacKernel):
    """Exact sums by a fast kernel; the accumulator acts on those."""

    def __init__(self, kernel: MacKernel, acc: Accumulator) -> None:
        self.kernel, self.acc, self.name = kernel, acc, kernel.name

    def pack(self, w: Tensor, geometry: Geometry) -> Any:
        return self.kernel.pack(w, geometry)

    def sums(self, a: Tensor, packed: Any, geometry: Geometry, pad_code: int) -> Tensor:
        exact = self.kernel.sums(a, packed, geometry, pad_code)
        return self.acc.reduce(exact.to(torch.int64))


def plan_accumulated(
    mul: Multiplier, operands: Operands, acc: Accumulator | None, reduction: int
) -> MacKernel:
    """The kernel whose sums of ``reduction`` products are what ``acc`` holds in the end.

    >>> from dovetail.accumulators import accumulator
    >>> from dovetail.multipliers import multiplier
    >>> codes = Operands((-127, 127), (-127, 127))
    >>> plan_accumulated(multiplier("exact"), codes, accumulator("int16(saturate)"), 512).name
    'torch-accumulated'
    """
    bound = operands.bound(mul) * reduction
    kernel = plan_mac(mul, operands)
    if acc is None or acc.holds(bound):
        return kernel
    if acc.takes_sum(bound):
        return _reduced(kernel, acc)
    return _accumulated(mul, operands, acc, forced() == "reference")


@lru_cache(maxsize=256)
def _reduced(kernel: MacKernel, acc: Accumulator) -> MacKernel:
    return ReducedMac(kernel, acc)


@lru_cache(maxsize=256)
def _accumulated(
    mul: Multiplier, operands: Operands, acc: Accumulator, by_definition: bool
) -> MacKernel:
    return LoopedMac(mul, acc) if by_definition else AccumulatedMac(mul, operands, acc)
