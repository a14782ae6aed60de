"""The native core as realisations: ``native-factored``, ``native-classes`` and ``native-table``.

All hold for operands of at most 8 bits on the CPU. Factors run as one int8 product with K' = rank
times K; a product that errs by few classes as one int8 product and a byte looked up per class; any
other table runs as lookups. Where a sum might leave 32 bits, the portable kernels serve instead:
the result is the same, and exact.
"""

from __future__ import annotations

from dataclasses import dataclass
from functools import cached_property
from typing import Any, NamedTuple

import torch
from torch import Tensor

from dovetail.kernels import native
from dovetail.kernels.geometry import Geometry
from dovetail.kernels.native_forms import (
    Form,
    class_bytes,
    factor_bytes,
    holds,
    signs,
    table_bytes,
)
from dovetail.kernels.native_products import NativeMac, Packed
from dovetail.kernels.realisation import MacKernel, Operands, register_realisation
from dovetail.kernels.torch_kernels import TorchFactored, TorchProducts
from dovetail.multipliers import Multiplier

__all__ = ["NativeClasses", "NativeFactored", "NativeKernel", "NativeTable"]


class Costs(NamedTuple):
    """Time of a large layer as a ratio to torch float32, one thread, above `BESIDES`."""

    rank: float  # of each int8 product
    lookup: float | None  # of each byte by class; None: never the best plan
    table: float  # of a whole table


#: At each instruction-set level; ``python -m benchmarks costs`` measures them.
COSTS = {
    "scalar": Costs(13.0, None, 7.4),
    "avx2": Costs(1.7, None, 4.5),
    "avx512": Costs(1.2, None, 3.3),
    "avx512vnni": Costs(0.28, 0.6, 2.3),
    "amx": Costs(0.11, 0.6, 2.3),
}
BESIDES = 0.1  # quantisation and the like, whatever the rank


def _factors(mul: Multiplier, operands: Operands) -> Form | None:
    """Factors that fit the core, up to the rank at which looking products up is as fast."""
    if not (native.available() and holds(mul, operands)):
        return None
    costs = COSTS[native.isa()]
    return factor_bytes(mul, operands, int(costs.table / costs.rank))


def _classes(mul: Multiplier, operands: Operands) -> Form | None:
    if not (native.available() and holds(mul, operands)):
        return None
    costs = COSTS[native.isa()]
    if costs.lookup is None:
        return None
    return class_bytes(mul, operands, int(costs.table / costs.lookup))


@dataclass(frozen=True, eq=False)
class _Rows:
    """A linear layer's weight, packed for many rows, and once a single one comes for that."""

    many: Packed
    codes: Tensor
    mac: NativeMac  # of fewer bytes per weight

    @cached_property
    def one(self) -> Packed:
        return self.mac.pack(self.codes)


def _for_rows(packed: Any, a: Tensor) -> Any:
    if not isinstance(packed, _Rows):
        return packed
    return packed.one if a.numel() == a.shape[-1] else packed.many


class NativeKernel(MacKernel):
    """What all share: the core's byte interface, and the way out where 32 bits do not suffice."""

    def __init__(self, mul: Multiplier, operands: Operands, mac: NativeMac) -> None:
        self.mul, self.operands, self.mac = mul, operands, mac
        portable = TorchProducts if mul.bits is not None else TorchFactored
        self.portable: MacKernel = portable(mul, operands)

    def pack(self, w: Tensor, geometry: Geometry) -> Any:
        if not self.mac.fits(geometry.reduction(w.shape)) or w.numel() == 0:
            return self.portable.pack(w, geometry)
        return self.mac.pack(w.to(self.mac.dtypes[1]), geometry)

    def weight_sums(self, packed: Any) -> Tensor | None:
        packed = packed.many if isinstance(packed, _Rows) else packed
        return packed.wsum.to(torch.int64) if isinstance(packed, Packed) else None

    def sums(self, a: Tensor, packed: Any, geometry: Geometry, pad_code: int) -> Tensor:
        packed = _for_rows(packed, a)
        if not isinstance(packed, Packed):
            return self.portable.sums(a, packed, geometry, pad_code)
        return packed.mac.codes(a.to(self.mac.dtypes[0]), packed, pad_code)

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
        packed = _for_rows(packed, x)
        if not isinstance(packed, Packed) or not packed.mac.fits(packed.depth, zero):
            return None
        return packed.mac.quantized(
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
    return _factors(mul, operands) is not None


def _factored_cost(mul: Multiplier, operands: Operands) -> float:
    form = _factors(mul, operands)
    assert form is not None
    return BESIDES + COSTS[native.isa()].rank * form.rank


@register_realisation("mac", when=_factored_holds, cost=_factored_cost, name="native-factored")
class NativeFactored(NativeKernel):
    """An int8 product over the factors of both operands.

    A single row takes as long as its weights take to read: a byte for every factor. Where
    `NativeClasses` reads fewer, a single row of a linear layer runs as that.
    """

    name = "native-factored"

    def __init__(self, mul: Multiplier, operands: Operands) -> None:
        super().__init__(mul, operands, _mac(_factors(mul, operands), mul, operands))
        form = _classes(mul, operands)
        side = form and form.lookups[0]
        fewer = form and side and form.rank + side.count < self.mac.rank
        self.single = _mac(form, mul, operands) if fewer else None

    def pack(self, w: Tensor, geometry: Geometry) -> Any:
        packed = super().pack(w, geometry)
        if self.single is None or geometry.spatial or not isinstance(packed, Packed):
            return packed
        return _Rows(packed, w.to(self.mac.dtypes[1]), self.single)


def _classes_hold(mul: Multiplier, operands: Operands) -> bool:
    return _classes(mul, operands) is not None


def _classes_cost(mul: Multiplier, operands: Operands) -> float:
    form, costs = _classes(mul, operands), COSTS[native.isa()]
    assert form is not None
    assert costs.lookup is not None
    # The mean of linear layers and convolutions.
    roles = [
        costs.table if side is None else costs.rank * form.rank + costs.lookup * side.count
        for side in form.lookups
    ]
    return BESIDES + sum(roles) / len(roles)


@register_realisation("mac", when=_classes_hold, cost=_classes_cost, name="native-classes")
class NativeClasses(NativeKernel):
    """An int8 product, and a byte per class of one operand's codes.

    That operand is the weight in linear layers, the activation in convolutions. Where it has too
    many classes and the other one has few, every product is looked up.
    """

    name = "native-classes"

    def __init__(self, mul: Multiplier, operands: Operands) -> None:
        super().__init__(mul, operands, _mac(_classes(mul, operands), mul, operands))


def _mac(form: Form | None, mul: Multiplier, operands: Operands) -> NativeMac:
    assert form is not None
    return NativeMac.factored(
        form.first, form.second, signs(mul, operands), form.constant, form.lookups
    )


def _table_holds(mul: Multiplier, operands: Operands) -> bool:
    return native.available() and holds(mul, operands)


def _table_cost(mul: Multiplier, operands: Operands) -> float:
    del mul, operands
    return BESIDES + COSTS[native.isa()].table


@register_realisation("mac", when=_table_holds, cost=_table_cost, name="native-table")
class NativeTable(NativeKernel):
    """Every product looked up, many at a time."""

    name = "native-table"

    def __init__(self, mul: Multiplier, operands: Operands) -> None:
        mac = NativeMac.table(table_bytes(mul, operands), signs(mul, operands))
        super().__init__(mul, operands, mac)
