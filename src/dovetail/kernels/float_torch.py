"""Layers of a floating-point multiplier in plain torch, on any device: some k at a time."""

from __future__ import annotations

from collections.abc import Callable
from functools import lru_cache

import numpy as np
import numpy.typing as npt
import torch
from torch import Tensor

from dovetail.accumulators import FloatAccumulator
from dovetail.accumulators.base import Accumulator
from dovetail.formats.realise import round_values
from dovetail.kernels.accumulate import Products, Totals, accumulate
from dovetail.kernels.accumulate_columns import columns
from dovetail.kernels.geometry import Geometry
from dovetail.multipliers import FloatMultiplier
from dovetail.multipliers.float_structure import structure_of
from dovetail.multipliers.floating import FLOAT32

__all__ = ["float_mac", "float_totals", "is_plain"]

_FRACTION = 52  # bits of float64, in which float32's subnormal numbers are normal


def float_mac(
    x: Tensor, w: Tensor, mul: FloatMultiplier, acc: Accumulator | None, geometry: Geometry
) -> Tensor:
    """The sums, in float32, of a layer or of ``x [..., M, K] @ w [..., K, N]``.

    >>> from dovetail.kernels.geometry import LINEAR
    >>> from dovetail.multipliers import multiplier
    >>> x, m = torch.tensor([[1.5, 2.0]]), multiplier("mitchell", format="bf16")
    >>> float_mac(x, torch.tensor([[1.5], [3.0]]), m, None, LINEAR)
    tensor([[8.]])
    """
    if not is_plain(acc):
        assert acc is not None
        return float_totals(x, w, geometry, mul, acc).total.float()
    products = _products(x, w, mul, geometry)
    total = torch.zeros(products.shape, device=x.device)
    for slab in products.slabs():
        for term in slab.float().unbind(0):
            total += term
    return total.reshape(_shape(products, x, w, geometry))


def float_totals(
    x: Tensor,
    w: Tensor,
    geometry: Geometry,
    mul: FloatMultiplier,
    acc: Accumulator,
    *,
    counting: bool = False,
) -> Totals:
    """The registers of ``acc``; operands as in :func:`float_mac`.

    >>> from dovetail.accumulators import accumulator
    >>> from dovetail.kernels.geometry import LINEAR
    >>> from dovetail.multipliers import multiplier
    >>> x, m = torch.tensor([[48.0, 1.0]]), multiplier("mitchell", format="bf16")
    >>> float_totals(x, torch.ones(2, 1), LINEAR, m, accumulator("fp8_e4m3fn")).total
    tensor([[48.]], dtype=torch.float64)
    """
    products = _products(x, w, mul, geometry)
    found = accumulate(products, acc, x.device, counting=counting)
    shape = _shape(products, x, w, geometry)
    overflows = None if found.overflows is None else found.overflows.reshape(shape)
    return Totals(found.total.reshape(shape), overflows, found.additions)


def is_plain(acc: Accumulator | None) -> bool:
    """Whether ``acc`` sums in float32, in order of k, as no accumulator does.

    >>> from dovetail.accumulators import accumulator
    >>> is_plain(None), is_plain(accumulator("fp32")), is_plain(accumulator("fp32(order=tree)"))
    (True, True, False)
    """
    return acc is None or (isinstance(acc, FloatAccumulator) and acc == FloatAccumulator(FLOAT32))


def _shape(products: Products, x: Tensor, w: Tensor, geometry: Geometry) -> tuple[int, ...]:
    return products.shape if geometry.spatial == 0 else geometry.out_shape(x.shape, w.shape)


def _products(x: Tensor, w: Tensor, mul: FloatMultiplier, geometry: Geometry) -> Products:
    """Every product, of operands that are values of the multiplier's format."""
    found = structure_of(mul)
    if found.factors is not None:
        first, second = (_reduced(v, f, mul) for v, f in zip((x, w), found.factors, strict=True))
        cols = columns(first, second, geometry)

        def multiply(i: int, j: int) -> Tensor:
            return _rounded(cols.first(i, j) * cols.second(i, j), mul)

        return Products(cols.length, cols.shape, None, multiply)
    f = _mantissa_products(mul, x.device)
    # A significand's place and its power of two, in one complex number, are gathered and padded
    # alike; (0, 0), a padded pixel, is a zero.
    m = mul.format.mantissa
    a, b = (torch.complex(*_parts(v, m)) for v in (x, w))
    both = columns(a, b, geometry)

    def look_up(i: int, j: int) -> Tensor:
        u, v = both.first(i, j), both.second(i, j)
        return _rounded(f(u.real, v.real) * (u.imag * v.imag), mul)

    return Products(both.length, both.shape, None, look_up)


def _rounded(product: Tensor, mul: FloatMultiplier) -> Tensor:
    """The exact ``product``, in float64, rounded once."""
    return product.float() if mul.output == FLOAT32 else round_values(product, mul.output)


def _reduced(x: Tensor, factors: npt.NDArray[np.int64], mul: FloatMultiplier) -> Tensor:
    """Each operand with the integer that multiplies in its significand's place, in float64."""
    m = mul.format.mantissa
    place, power = _parts(x, m)
    values = np.concatenate([[1.0], factors])
    return torch.from_numpy(values).to(x.device)[place.long()] * power


def _parts(x: Tensor, m: int) -> tuple[Tensor, Tensor]:
    """``1 + fraction`` in units of 2**-m, and the power of two ``+-2**(e - m)`` that it is of; 0
    and the number itself for zeros, infinities and NaN."""
    wide = x.double()
    bits = wide.view(torch.int64)
    regular = torch.isfinite(wide) & (wide != 0)
    fraction = (bits >> _FRACTION - m) & ((1 << m) - 1)
    power = ((bits >> _FRACTION << _FRACTION) - (m << _FRACTION)).view(torch.float64)
    place = torch.where(regular, fraction + 1, 0)
    return place.double(), torch.where(regular, power, wide)


def _mantissa_products(
    mul: FloatMultiplier, device: torch.device
) -> Callable[[Tensor, Tensor], Tensor]:
    """Products of significands, each given by its place as :func:`_parts` counts them."""
    found = structure_of(mul)
    if found.table is not None:
        table, width = _table(mul, str(device)), (1 << found.mantissa) + 1

        def look_up(a: Tensor, b: Tensor) -> Tensor:
            return table[(a * width + b).long()]

        return look_up

    def evaluate(a: Tensor, b: Tensor) -> Tensor:
        x, y = np.broadcast_arrays(*(v.cpu().numpy().astype(np.int64) for v in (a, b)))
        product = mul.products(np.maximum(x - 1, 0), np.maximum(y - 1, 0))
        product = np.where((x == 0) | (y == 0), 1, product).astype(np.float64)
        return torch.from_numpy(product).to(device)

    return evaluate


@lru_cache(maxsize=16)
def _table(mul: FloatMultiplier, device: str) -> Tensor:
    """All products, flat; see `FloatStructure.extended`."""
    return torch.from_numpy(structure_of(mul).extended.copy()).flatten().to(device)
