"""The native core as realisations: ``native-factored`` and ``native-table``.

Both hold for operands of at most 8 bits on the CPU. Factors run as one int8 product with K' = rank
times K; any other table runs as lookups. Where a sum might leave 32 bits, the portable kernels
serve instead: the result is the same, and exact.
"""

from __future__ import annotations

from typing import Any

import numpy as np
import numpy.typing as npt
import torch
from torch import Tensor

from dovetail.kernels import native
from dovetail.kernels.geometry import Geometry
from dovetail.kernels.native_products import NativeMac, Packed
from dovetail.kernels.realisation import MacKernel, Operands, register_realisation
from dovetail.kernels.torch_kernels import TorchFactored, TorchProducts
from dovetail.multipliers import Factors, Multiplier, multiplier
from dovetail.multipliers.int8 import int8_factors

__all__ = ["NativeFactored", "NativeTable"]

#: Time of a large layer, one thread, as a ratio to torch float32 (benchmarks/results/mac.md):
#: per rank of a factored product, and of a table, at each instruction-set level.
COSTS = {
    "scalar": (13.0, 7.5),
    "avx2": (1.8, 4.6),
    "avx512": (1.25, 3.4),
    "avx512vnni": (0.28, 2.4),
    "amx": (0.12, 2.4),
}
BESIDES = 0.1  # quantisation and the like, whatever the rank
MAX_RANK = 64  # what the core takes

Ints = npt.NDArray[np.int64]


def _bytes(operands: Operands) -> bool:
    low = min(operands.first[0], operands.second[0])
    high = max(operands.first[1], operands.second[1])
    return operands.device == "cpu" and low >= -128 and high <= (127 if low < 0 else 255)


def _bound(mul: Multiplier, operands: Operands) -> Multiplier:
    """``mul`` for operand bytes: ``exact`` takes the operands' own signedness."""
    if mul.bits is not None:
        return mul
    return multiplier("exact", bits=8, signed=min(operands.first[0], operands.second[0]) < 0)


def _shifted(mul: Multiplier, operands: Operands) -> Operands:
    """``exact`` multiplies uint8 inputs as int8 codes, 128 lower: sum(a w) - 128 sum(w)."""
    if mul.bits is not None or operands.first[0] < 0 or operands.second[1] > 127:
        return operands
    first = (operands.first[0] - 128, operands.first[1] - 128)
    return Operands(first, operands.second, operands.device)


def _narrow(mul: Multiplier) -> bool:
    return mul.bits is None or max(mul.bits) <= 8


def _factors(mul: Multiplier, operands: Operands) -> Factors | None:
    """Factors as bytes index them, if some fit int8 on the codes that occur and beat the table.

    The multiplier's own where they fit; else those of :func:`int8_factors`, up to the rank at which
    looking products up is as fast.
    """
    if not (native.available() and _bytes(operands) and _narrow(mul)):
        return None
    bound = _bound(mul, operands)
    own = bound.factors()
    if own is not None and own.rank <= MAX_RANK:
        found = _in_bytes(own, operands)
        if found is not None:
            return found
    assert bound.bits is not None
    lowest = [-(1 << (bits - 1)) for bits in bound.bits]
    skip = bound.signed and operands.first[0] > lowest[0] and operands.second[0] > lowest[1]
    per_rank, table = COSTS[native.isa()]
    most = min(MAX_RANK, int((table - BESIDES) / per_rank))
    narrow = int8_factors(bound, max_rank=most, skip_lowest=skip)
    return None if narrow is None else _in_bytes(narrow, operands)


def _in_bytes(factors: Factors, operands: Operands) -> Factors | None:
    """``factors`` by byte, zero on the codes that do not occur; ``None`` if they do not fit int8.

    The multiplier that is always zero gets one term: the core wants at least that.
    """
    sides = []
    for side, (low, high) in ((factors.first, operands.first), (factors.second, operands.second)):
        used = np.zeros(256, dtype=bool)
        used[np.arange(low, high + 1) & 0xFF] = True
        wide = np.where(used, side[:, np.arange(256) & (side.shape[1] - 1)], 0)
        if factors.rank == 0:
            wide = np.zeros((1, 256), dtype=np.int64)
        if wide.min() < -128 or wide.max() > 127:
            return None
        sides.append(wide)
    return Factors(*sides)


class _Native(MacKernel):
    """What both share: the core's byte interface, and the way out where 32 bits do not suffice."""

    def __init__(self, mul: Multiplier, operands: Operands, mac: NativeMac) -> None:
        self.mul, self.operands, self.mac = mul, operands, mac
        self.shift = 0
        portable = TorchProducts if mul.bits is not None else TorchFactored
        self.portable: MacKernel = portable(mul, operands)

    def _codes(self, codes: Tensor) -> Tensor:
        return codes.to(self.mac.dtype)

    def pack(self, w: Tensor, geometry: Geometry) -> Any:
        if not self.mac.fits(geometry.reduction(w.shape)) or w.numel() == 0:
            return self.portable.pack(w, geometry)
        return self.mac.pack(self._codes(w), geometry)

    def sums(self, a: Tensor, packed: Any, geometry: Geometry, pad_code: int) -> Tensor:
        if not isinstance(packed, Packed):
            return self.portable.sums(a, packed, geometry, pad_code)
        if not self.shift:
            return self.mac.codes(self._codes(a), packed, pad_code)
        lower = self._codes(a.int() - self.shift)
        sums = self.mac.codes(lower, packed, pad_code - self.shift).long()
        return sums + self.shift * packed.wsum.long().view(-1, *[1] * geometry.spatial)

    def fused(
        self,
        x: Tensor,
        quantizer: tuple[float, int, int, int],
        packed: Any,
        geometry: Geometry,
        scale: Tensor,
        bias: Tensor | None,
    ) -> Tensor | None:
        del geometry
        step, zero, low, high = quantizer
        zero, low, high = zero - self.shift, low - self.shift, high - self.shift
        if not isinstance(packed, Packed) or not self.mac.fits(packed.depth, zero):
            return None
        return self.mac.quantized(
            x,
            packed,
            scale=step,
            zero_point=zero,
            qmin=low,
            qmax=high,
            out_scale=scale,
            bias=bias if bias is None or bias.dtype == torch.float32 else bias.detach().float(),
        )


def _factored_holds(mul: Multiplier, operands: Operands) -> bool:
    return _factors(mul, _shifted(mul, operands)) is not None


def _factored_cost(mul: Multiplier, operands: Operands) -> float:
    factors = _factors(mul, _shifted(mul, operands))
    assert factors is not None
    return BESIDES + COSTS[native.isa()][0] * factors.rank


@register_realisation("mac", when=_factored_holds, cost=_factored_cost, name="native-factored")
class NativeFactored(_Native):
    """An int8 product over the factors of both operands."""

    name = "native-factored"

    def __init__(self, mul: Multiplier, operands: Operands) -> None:
        shifted = _shifted(mul, operands)
        factors = _factors(mul, shifted)
        assert factors is not None
        signed = _bound(mul, shifted).signed
        mac = NativeMac.factored(factors.first, factors.second, signed)
        super().__init__(mul, operands, mac)
        self.shift = operands.first[0] - shifted.first[0]


def _table_holds(mul: Multiplier, operands: Operands) -> bool:
    return native.available() and _narrow(mul) and _bytes(_shifted(mul, operands))


def _table_cost(mul: Multiplier, operands: Operands) -> float:
    del mul, operands
    return COSTS[native.isa()][1]


@register_realisation("mac", when=_table_holds, cost=_table_cost, name="native-table")
class NativeTable(_Native):
    """Every product looked up, many at a time."""

    name = "native-table"

    def __init__(self, mul: Multiplier, operands: Operands) -> None:
        shifted = _shifted(mul, operands)
        bound = _bound(mul, shifted)
        assert bound.bits is not None
        rows, columns = (np.arange(256) & ((1 << bits) - 1) for bits in bound.bits)
        table = bound.table().numpy()[rows][:, columns]
        super().__init__(mul, operands, NativeMac.table(table, bound.signed))
        self.shift = operands.first[0] - shifted.first[0]
