"""A layer of a floating-point multiplier: which realisation computes it. All are bit-equal.

    y = float32(register + bias), every product f(a, w) entering the register in order of k

f is :class:`dovetail.multipliers.FloatMultiplier`; the register is an accumulator's, by default
float32's, sequential: ``float32(register + product)``, from +0. Padded pixels are zeros, and
multiplied. All NaNs are one NaN.
"""

from __future__ import annotations

import struct

import torch
import torch.nn.functional as F
from torch import Tensor

from dovetail.accumulators import FloatAccumulator
from dovetail.accumulators.base import Accumulator
from dovetail.errors import DovetailError
from dovetail.kernels import accumulate_reference, float_torch, native, native_float
from dovetail.kernels.geometry import Geometry
from dovetail.kernels.library import batched
from dovetail.kernels.realisation import forced
from dovetail.kernels.weight_cache import cached
from dovetail.multipliers import FloatMultiplier
from dovetail.multipliers.floating import FLOAT32

__all__ = ["emulate", "matmul"]


def emulate(
    x: Tensor,
    weight: Tensor,
    bias: Tensor | None,
    mul: FloatMultiplier,
    acc: Accumulator | None,
    geometry: Geometry,
    *,
    keep: bool = True,
) -> Tensor:
    """The layer's result in float32; no gradient is recorded.

    ``x`` is ``[..., K]`` and ``weight`` ``[N, K]``, or ``[B, C, *spatial]`` and
    ``[O, C/groups, *kernel]``, both holding values of the multiplier's format. ``keep``: pack the
    weight once, as long as it is the same.

    >>> from dovetail.kernels.geometry import LINEAR
    >>> from dovetail.multipliers import multiplier
    >>> m = multiplier("mitchell", format="bf16")
    >>> emulate(torch.tensor([[1.5, 2.0]]), torch.tensor([[1.5, 3.0]]), None, m, None, LINEAR)
    tensor([[8.]])
    """
    shape = geometry.out_shape(x.shape, weight.shape)
    x, weight = x.detach(), weight.detach() if weight.requires_grad else weight
    _check(x, weight, mul, acc)
    name = forced() or ""
    if 0 in shape or x.numel() == 0 or weight.numel() == 0:
        y = torch.zeros(shape, device=x.device)
    elif name == "reference":
        y = _by_definition(x, weight, mul, acc, geometry)
    elif _is_native(x, mul, acc) and not name.startswith("torch"):

        def pack() -> native_float.PackedFloats:
            return native_float.pack(weight, mul, geometry)

        key = ("floats", native.isa(), mul, geometry)
        return native_float.float_mac(x, cached(weight, key, pack) if keep else pack(), bias)
    else:
        second = weight.mT if geometry.spatial == 0 else weight
        y = float_torch.float_mac(torch.atleast_2d(x), second, mul, acc, geometry).reshape(shape)
    if bias is not None:
        y = y + bias.detach().float().reshape(-1, *[1] * geometry.spatial)
    return torch.where(y.isnan(), torch.nan, y)


def matmul(x: Tensor, weight: Tensor, mul: FloatMultiplier, acc: Accumulator | None) -> Tensor:
    """``x [..., M, K] @ weight [..., K, N]`` with broadcast leading dimensions, in float32.

    >>> from dovetail.multipliers import multiplier
    >>> m = multiplier("mitchell", format="bf16")
    >>> matmul(torch.tensor([[1.5, 2.0]]), torch.tensor([[1.5], [3.0]]), m, None)
    tensor([[8.]])
    """

    def mac(a: Tensor, w: Tensor, geometry: Geometry) -> Tensor:
        return emulate(a, w, None, mul, acc, geometry, keep=False)

    return batched(x, weight, mac).float()


def _is_native(x: Tensor, mul: FloatMultiplier, acc: Accumulator | None) -> bool:
    return x.device.type == "cpu" and float_torch.is_plain(acc) and native_float.holds(mul)


def _check(x: Tensor, weight: Tensor, mul: FloatMultiplier, acc: Accumulator | None) -> None:
    if acc is not None and not isinstance(acc, FloatAccumulator):
        raise DovetailError(
            f"acc={acc} sums integers, but mul={mul} gives floating-point products; the nearest "
            "is 'fp32'"
        )
    for slot, value in (("input", x), ("weight", weight)):
        if not value.is_floating_point():
            raise DovetailError(
                f"the {slot} has dtype {value.dtype}; '{mul.format!r}' is of floats"
            )


def _by_definition(
    x: Tensor, weight: Tensor, mul: FloatMultiplier, acc: Accumulator | None, geometry: Geometry
) -> Tensor:
    register = FloatAccumulator(FLOAT32) if acc is None else acc
    a, w = x.cpu().double(), weight.cpu().double()
    # Every product that can occur, by the operands' bits: -0 is not 0, and NaN is itself.
    sides = [torch.unique(F.pad(t.flatten(), [0, 1]).view(torch.int64)) for t in (a, w)]
    rows, columns = (side.view(torch.float64).numpy() for side in sides)
    products = mul(rows[:, None], columns[None]).tolist()
    places = [{bits: i for i, bits in enumerate(side.tolist())} for side in sides]

    def f(first: float, second: float) -> float:
        i, j = (place[_bits(v)] for place, v in zip(places, (first, second), strict=True))
        return float(products[i][j])

    return accumulate_reference.sums(a, w, f, register, geometry, 0.0).float().to(x.device)


def _bits(value: float) -> int:
    bits: int = struct.unpack("<q", struct.pack("<d", value))[0]
    return bits
