"""``dovetail::backward_sums``: sums of a multiplier's products with codes of a gradient."""

from __future__ import annotations

import torch
from torch import Tensor
from torch.library import Library, register_fake, register_vmap

from dovetail._eager import is_eager
from dovetail.arithmetic import Arithmetic
from dovetail.kernels.batching import one_by_one
from dovetail.kernels.geometry import LINEAR, Geometry
from dovetail.kernels.planner import plan_mac
from dovetail.kernels.realisation import MacKernel, Operands

__all__ = ["backward_sums"]

_library = Library("dovetail", "FRAGMENT")
_library.define(
    "backward_sums(Tensor grad, Tensor codes, str arithmetic, bool of_weight) -> Tensor"
)


def backward_sums(grad: Tensor, codes: Tensor, arithmetic: str, of_weight: bool) -> Tensor:
    """``y[t, r, n] = sum_k f(grad[t, r, k], codes[t, n, k])`` in int64, exact.

    ``grad`` holds codes of the arithmetic's ``gradient_format``; ``codes`` those of its weight or,
    where not ``of_weight``, of its input.
    """
    op = _sums if is_eager() else torch.ops.dovetail.backward_sums
    y: Tensor = op(grad, codes, arithmetic, of_weight)
    return y


def _sums(grad: Tensor, codes: Tensor, arithmetic: str, of_weight: bool) -> Tensor:
    rule = Arithmetic.parse(arithmetic)
    fmt, mul = rule.gradient_format, rule.code_multiplier
    assert fmt is not None
    operands = Operands((fmt.qmin, fmt.qmax), rule.code_ranges[of_weight], grad.device.type)
    total = grad.new_zeros((*grad.shape[:2], codes.shape[1]), dtype=torch.int64)
    if total.numel() == 0:
        return total
    kernel = plan_mac(mul, operands)
    # Kernels are fast where sums of a run fit 32 bits; positions of a large batch may be more.
    run = max(1, (2**31 - 1) // max(1, operands.bound(mul)))
    with torch.autocast(grad.device.type, enabled=False):  # it would round codes
        for start in range(0, grad.shape[2], run):
            part = slice(start, start + run)
            total += _of_run(grad[..., part], codes[..., part], kernel)
    return total


def _of_run(grad: Tensor, codes: Tensor, kernel: MacKernel) -> Tensor:
    """Many matrices are the groups of one convolution with a window of one pixel."""
    groups, rows, depth = grad.shape
    columns = codes.shape[1]
    if groups == 1:
        packed = kernel.pack(codes[0].contiguous(), LINEAR)
        return kernel.sums(grad[0].contiguous(), packed, LINEAR, 0)[None]
    geometry = Geometry.conv(1, groups=groups)
    packed = kernel.pack(codes.reshape(-1, depth, 1), geometry)
    pixels = grad.mT.reshape(1, -1, rows)
    return kernel.sums(pixels, packed, geometry, 0).reshape(groups, columns, rows).mT


def _fake(grad: Tensor, codes: Tensor, arithmetic: str, of_weight: bool) -> Tensor:
    del arithmetic, of_weight
    return grad.new_empty((*grad.shape[:2], codes.shape[1]), dtype=torch.int64)


_library.impl("backward_sums", _sums, "CompositeExplicitAutograd")
register_fake("dovetail::backward_sums", _fake, lib=_library)
register_vmap("dovetail::backward_sums", one_by_one("backward_sums"), lib=_library)
