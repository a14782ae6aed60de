"""Multiply-accumulate kernels of integer codes that end in an accumulator.

``plan_accumulated`` decides how much of the accumulator is needed: nothing where it provably
changes nothing, one step behind the fast sums where it wraps or acts at the end, and otherwise its
steps, in the native core or in torch. Bit-equal to :mod:`dovetail.kernels.accumulate_reference`.
"""

from __future__ import annotations

from functools import cached_property, lru_cache
from math import prod
from typing import Any

import torch
from torch import Tensor

from dovetail.accumulators import Accumulator, IntAccumulator
from dovetail.kernels import native
from dovetail.kernels.accumulate import Totals, accumulate, over_matrices
from dovetail.kernels.accumulate_columns import code_products
from dovetail.kernels.accumulate_reference import LoopedMac
from dovetail.kernels.geometry import Geometry
from dovetail.kernels.native_accumulate import NativeSteps, PackedSteps, steps_of_codes
from dovetail.kernels.planner import plan_mac
from dovetail.kernels.realisation import MacKernel, Operands, forced
from dovetail.multipliers import Multiplier, multiplier

__all__ = ["AccumulatedMac", "ReducedMac", "code_totals", "plan_accumulated"]

_SAMPLE = 16  # rows that tell whether it is worth looking at all


def plan_accumulated(
    mul: Multiplier, operands: Operands, acc: Accumulator | None, reduction: int
) -> MacKernel:
    """The kernel whose sums of ``reduction`` products are what ``acc`` holds in the end.

    >>> from dovetail.accumulators import accumulator
    >>> from dovetail.multipliers import multiplier
    >>> codes = Operands((-2048, 2047), (-2048, 2047))
    >>> plan_accumulated(multiplier("exact"), codes, accumulator("int16(saturate)"), 512).name
    'torch-accumulated'
    """
    bound = operands.bound(mul) * reduction
    kernel = plan_mac(mul, operands)
    if acc is None or acc.holds(bound):
        return kernel
    if acc.takes_sum(bound):
        return _reduced(kernel, acc)
    level = native.isa() if native.available() else None
    return _accumulated(mul, operands, acc, forced(), level)


def code_totals(
    a: Tensor,
    w: Tensor,
    mul: Multiplier,
    operands: Operands,
    acc: Accumulator,
    geometry: Geometry,
    pad_code: int = 0,
) -> Totals:
    """The registers of products of matrices ``a [..., M, K]`` and ``w [..., N, K]``, or of a
    convolution, overflows counted.

    >>> from dovetail.accumulators import accumulator
    >>> from dovetail.kernels.geometry import LINEAR
    >>> a, w = torch.tensor([[100, 100, -100]]), torch.ones(1, 3, dtype=torch.int8)
    >>> found = code_totals(a, w, multiplier("exact"), Operands((-127, 127), (-127, 127)),
    ...                     accumulator("int8(saturate)"), LINEAR)
    >>> found.total.tolist(), found.overflows.tolist(), found.additions
    ([[27]], [[1]], 3)
    """
    steps = steps_of_codes(mul, operands, acc) if forced() is None else None
    if steps is not None and steps.holds(prod(w.shape[1:]) if geometry.spatial else w.shape[-1]):

        def natively(a: Tensor, w: Tensor) -> Totals:
            return steps.totals(a, steps.pack(w, geometry), pad_code, counting=True)

        return natively(a, w) if geometry.spatial else over_matrices(a, w, natively)
    products = code_products(a, w, mul, operands.bound(mul), geometry, pad_code)
    found = accumulate(products, acc, a.device, counting=True)
    if geometry.spatial == 0 or found.overflows is None:
        return found
    shape = geometry.out_shape(a.shape, w.shape)
    return Totals(found.total.reshape(shape), found.overflows.reshape(shape), found.additions)


class _Packed:
    """A weight's codes, in each order that turns out to be needed."""

    def __init__(self, mac: AccumulatedMac, codes: Tensor, geometry: Geometry) -> None:
        self.mac, self.codes, self.geometry = mac, codes, geometry

    @cached_property
    def exact(self) -> Any:
        """For the fast sums."""
        return self.mac.exact.pack(self.codes, self.geometry)

    @cached_property
    def magnitudes(self) -> Any:
        """For the sums of the products' magnitudes."""
        assert self.mac.magnitudes is not None
        return self.mac.magnitudes.pack(self.codes, self.geometry)

    @cached_property
    def steps(self) -> PackedSteps | None:
        """For the native steps."""
        steps = self.mac.steps
        holds = steps is not None and steps.holds(self.geometry.reduction(self.codes.shape))
        return steps.pack(self.codes, self.geometry) if steps is not None and holds else None

    @cached_property
    def never_overflows(self) -> bool:
        """Whether the register holds every sum, whatever the input."""
        peaks = self.mac.peaks
        if peaks is None or self.codes.numel() == 0:
            return False
        index = self.codes.long() & (len(peaks) - 1)
        return self.mac.acc.holds(int(peaks[index].flatten(1).sum(1).max()))


class AccumulatedMac(MacKernel):
    """Products step by step through the accumulator, where a sum may overflow.

    Whatever the order, no partial sum of an output exceeds the sum of its products' magnitudes.
    Where the register holds that, of all outputs by the weights alone or of a row by the input as
    well, the fast exact sums are the result.
    """

    def __init__(self, mul: Multiplier, operands: Operands, acc: Accumulator) -> None:
        self.mul, self.acc, self.bound = mul, acc, operands.bound(mul)
        self.exact = plan_mac(mul, operands)
        self.steps: NativeSteps | None = steps_of_codes(mul, operands, acc)
        self.name = "torch-accumulated" if self.steps is None else "native-accumulated"
        table = _bytes_table(mul, operands) if acc.holds(0) else None
        self.peaks = None if table is None else table.table().abs().amax(0).long()
        self.magnitudes: MacKernel | None = None
        if table is not None and self._looks():
            self.magnitudes = plan_mac(_magnitudes(table), operands)

    def _looks(self) -> bool:
        """Whether sums of magnitudes cost less than the steps that they may save."""
        if self.steps is None:
            return True
        short = isinstance(self.acc, IntAccumulator) and self.acc.bits <= 16
        return not short and any(kind in self.exact.name for kind in ("factored", "wide"))

    def pack(self, w: Tensor, geometry: Geometry) -> _Packed:
        return _Packed(self, w, geometry)

    def sums(self, a: Tensor, packed: _Packed, geometry: Geometry, pad_code: int) -> Tensor:
        shape = geometry.out_shape(a.shape, packed.codes.shape)
        if 0 in shape or packed.codes.numel() == 0:
            return torch.zeros(shape, dtype=self.acc.dtype, device=a.device)
        rows = a if geometry.spatial else a.reshape(-1, a.shape[-1])
        fits = self._fitting(rows, packed, pad_code)
        if fits.all():
            return self._exact(rows, packed, pad_code).reshape(shape)
        if not fits.any():
            return self._stepped(rows, packed, pad_code).reshape(shape)
        total = torch.empty(rows.shape[0], *shape[-1 - geometry.spatial :], dtype=self.acc.dtype)
        total[fits] = self._exact(rows[fits], packed, pad_code)
        total[~fits] = self._stepped(rows[~fits], packed, pad_code)
        return total.reshape(shape)

    def fused(
        self,
        x: Tensor,
        quantizer: tuple[float, int, int, int],
        packed: _Packed,
        geometry: Geometry,
        scale: Tensor,
        bias: Tensor | None,
    ) -> Tensor | None:
        if packed.never_overflows:
            return self.exact.fused(x, quantizer, packed.exact, geometry, scale, bias)
        if self.magnitudes is not None or packed.steps is None:
            return None
        return packed.steps.steps.finished(x, packed.steps, quantizer, scale, bias)

    def _fitting(self, rows: Tensor, packed: _Packed, pad_code: int) -> Tensor:
        """Of which rows (images) the register holds every sum; not all that are may be found."""
        none = torch.zeros(len(rows), dtype=torch.bool)
        if packed.never_overflows:
            return ~none
        if self.magnitudes is None:
            return none
        if len(rows) > 4 * _SAMPLE:
            few = rows[:: len(rows) // _SAMPLE]
            if not self._fits(few, packed, pad_code).any():
                return none
        return self._fits(rows, packed, pad_code)

    def _fits(self, rows: Tensor, packed: _Packed, pad_code: int) -> Tensor:
        assert self.magnitudes is not None
        largest = self.magnitudes.sums(rows, packed.magnitudes, packed.geometry, pad_code)
        peaks = largest.flatten(1).amax(1).tolist()
        return torch.tensor([self.acc.holds(peak) for peak in peaks])

    def _exact(self, rows: Tensor, packed: _Packed, pad_code: int) -> Tensor:
        exact = self.exact.sums(rows, packed.exact, packed.geometry, pad_code)
        return exact.to(self.acc.dtype)

    def _stepped(self, rows: Tensor, packed: _Packed, pad_code: int) -> Tensor:
        if packed.steps is not None:
            return packed.steps.steps.totals(rows, packed.steps, pad_code).total
        geometry = packed.geometry
        products = code_products(rows, packed.codes, self.mul, self.bound, geometry, pad_code)
        total = accumulate(products, self.acc, rows.device).total
        return total.reshape(geometry.out_shape(rows.shape, packed.codes.shape))


def _bytes_table(mul: Multiplier, operands: Operands) -> Multiplier | None:
    """``mul`` with a table: one of up to 8 + 8 bits, or the exact products of such codes."""
    if mul.bits is None:
        lows, highs = zip(operands.first, operands.second, strict=True)
        if not (min(lows) >= -128 and max(highs) <= (127 if min(lows) < 0 else 255)):
            return None
        mul = mul.bind(8, signed=min(lows) < 0)
    return None if mul.bits is None or sum(mul.bits) > 16 else mul


@lru_cache(maxsize=64)
def _magnitudes(mul: Multiplier) -> Multiplier:
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


@lru_cache(maxsize=256)
def _reduced(kernel: MacKernel, acc: Accumulator) -> MacKernel:
    return ReducedMac(kernel, acc)


@lru_cache(maxsize=256)
def _accumulated(
    mul: Multiplier, operands: Operands, acc: Accumulator, forced: str | None, _level: str | None
) -> MacKernel:
    if forced == "reference":
        return LoopedMac(mul, acc)
    return AccumulatedMac(mul, operands, acc)
