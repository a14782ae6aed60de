"""The integers of one product of codes, and the floating-point result that follows from them."""

from __future__ import annotations

from math import prod

import torch
from torch import Tensor

from dovetail.arithmetic import Arithmetic
from dovetail.kernels.geometry import Geometry
from dovetail.multipliers import Multiplier, multiplier
from dovetail.ops import conv_codes, linear_codes

__all__ = ["code_sums", "rescaled"]


def code_sums(
    kind: str, a: Tensor, w: Tensor, arithmetic: Arithmetic, geometry: Geometry, pad_code: int
) -> Tensor:
    """What the accumulators end with: by `dv.ops.linear_codes` and `dv.ops.conv_codes`.

    >>> from dovetail.formats import format
    >>> from dovetail.kernels.geometry import LINEAR
    >>> rule, codes = Arithmetic(format("int8"), format("int8")), torch.tensor([[3, -2]])
    >>> code_sums("linear", codes, codes, rule, LINEAR, 0)
    tensor([[13]], dtype=torch.int32)
    """
    mul, acc = arithmetic.code_multiplier, arithmetic.acc
    if kind == "matmul":
        batch = torch.broadcast_shapes(a.shape[:-2], w.shape[:-2])
        left = a.expand(*batch, *a.shape[-2:]).reshape(-1, *a.shape[-2:])
        right = w.mT.expand(*batch, *w.mT.shape[-2:]).reshape(-1, *w.mT.shape[-2:])
        pairs = zip(left, right, strict=True)
        each = [linear_codes(m, n.contiguous(), mul, acc) for m, n in pairs]
        return torch.stack(each).reshape(*batch, a.shape[-2], w.shape[-1])
    if geometry.spatial == 0:
        return linear_codes(a, w, mul, acc)
    return _conv(a, w, mul, geometry, pad_code, acc)


def _conv(
    a: Tensor, w: Tensor, mul: Multiplier, geometry: Geometry, pad_code: int, acc: object = None
) -> Tensor:
    return conv_codes(
        a,
        w,
        mul,
        stride=geometry.stride,
        padding=geometry.padding,
        dilation=geometry.dilation,
        groups=geometry.groups,
        pad_code=pad_code,
        acc=acc,  # type: ignore[arg-type]
    )


def rescaled(
    kind: str, held: dict[str, Tensor], geometry: Geometry, dtype: torch.dtype = torch.float32
) -> Tensor:
    """``float(sums less the zero points' terms) * (scale * scale) + bias``, of a vector's arrays.

    Computed in float32 (float64 for that ``dtype``) and rounded once to ``dtype``.

    >>> from dovetail.kernels.geometry import LINEAR
    >>> one, zero = torch.ones(()), torch.zeros((), dtype=torch.int32)
    >>> held = {"input_codes": torch.tensor([[1]]), "weight_codes": torch.tensor([[5]]),
    ...         "sums": torch.tensor([[5]]), "input_scale": one, "weight_scale": one / 2,
    ...         "input_zero": zero, "weight_zero": zero}
    >>> rescaled("linear", held, LINEAR)
    tensor([[2.5000]])
    """
    a, w = held["input_codes"].long(), held["weight_codes"].long()
    z, v = held["input_zero"].long(), held["weight_zero"].long()
    along = (-1, *[1] * geometry.spatial)
    v = v.view(along) if v.dim() else v
    if kind == "matmul":
        depth, of_w, of_a = w.shape[-2], w.sum(-2, keepdim=True), a.sum(-1, keepdim=True)
    elif geometry.spatial == 0:
        depth, of_w, of_a = w.shape[-1], w.sum(1), a.sum(-1, keepdim=True)
    else:
        depth, of_w = prod(w.shape[1:]), w.flatten(1).sum(1).view(along)
        of_a = _conv(a, torch.ones_like(w), multiplier("exact"), geometry, int(z)).long()
    total = held["sums"] - z * of_w - v * of_a + depth * z * v
    wide = torch.float64 if dtype == torch.float64 else torch.float32
    scale = held["input_scale"].to(wide) * held["weight_scale"].to(wide)
    y = total.to(wide) * (scale.view(along) if scale.dim() else scale)
    if "bias" in held:
        y = y + held["bias"].to(wide).view(along)
    return y.to(dtype)
