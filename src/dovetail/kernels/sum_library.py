"""``dovetail::backward_sums``: sums of a multiplier's products with codes of a gradient."""

from __future__ import annotations

from collections.abc import Sequence
from functools import lru_cache

import numpy as np
import torch
from torch import Tensor
from torch.library import Library, register_fake, register_vmap

from dovetail._eager import is_eager
from dovetail.arithmetic import Arithmetic
from dovetail.kernels.batching import one_by_one
from dovetail.kernels.geometry import LINEAR, Geometry
from dovetail.kernels.planner import plan_mac
from dovetail.kernels.realisation import MacKernel, Operands
from dovetail.multipliers import Multiplier

__all__ = ["backward_operands", "backward_sums", "input_sums", "is_silent"]

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


def backward_operands(arithmetic: str, of_weight: bool, device: str) -> tuple[Multiplier, Operands]:
    """The multiplier, and what a gradient and the weight's or the input's codes are to it."""
    rule = Arithmetic.parse(arithmetic)
    fmt = rule.gradient_format
    assert fmt is not None
    codes = rule.code_ranges[of_weight]
    return rule.code_multiplier, Operands((fmt.qmin, fmt.qmax), codes, device)


def _sums(grad: Tensor, codes: Tensor, arithmetic: str, of_weight: bool) -> Tensor:
    mul, operands = backward_operands(arithmetic, of_weight, grad.device.type)
    shape = (*grad.shape[:2], codes.shape[1])
    if 0 in shape or grad.shape[2] == 0:
        return grad.new_zeros(shape, dtype=torch.int64)
    kernel = plan_mac(mul, operands)
    # Kernels are fast where sums of a run fit 32 bits; positions of a large batch may be more.
    run = max(1, (2**31 - 1) // max(1, operands.bound(mul)))
    with torch.autocast(grad.device.type, enabled=False):  # it would round codes
        parts = zip(grad.split(run, 2), codes.split(run, 2), strict=True)
        total = _of_run(*next(parts), kernel).to(torch.int64)
        for part in parts:
            total += _of_run(*part, kernel)
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


def input_sums(
    grad: Tensor, codes: Tensor, arithmetic: str, geometry: Geometry, size: Sequence[int]
) -> Tensor | None:
    """``[B, C, *size]``: for each pixel of a convolution's input the sum of ``f(grad, weight)``
    over the windows that hold it, by one convolution of the gradient, its pixels spread out by the
    stride, with the window turned about.

    ``grad [B, O, *out]`` holds codes of the arithmetic's ``gradient_format``, ``codes
    [O, C/groups, *kernel]`` those of its weight. None where that convolution does not exist, or
    the zeros around and between the pixels would not give products of zero.
    """
    mul, operands = backward_operands(arithmetic, True, grad.device.type)
    kernel = codes.shape[2:]
    spans = [d * (k - 1) for d, k in zip(geometry.dilation, kernel, strict=True)]
    spread = [s * (n - 1) + 1 for s, n in zip(geometry.stride, grad.shape[2:], strict=True)]
    ends = zip(size, geometry.padding, spans, spread, strict=True)
    pads = tuple((span - low, n + low - wide) for n, (low, _), span, wide in ends)
    possible = is_eager() and grad.numel() and min(p for pair in pads for p in pair) >= 0
    if not (possible and is_silent(mul, operands, 0)):
        return None
    if spread != list(grad.shape[2:]):
        far = grad.new_zeros((*grad.shape[:2], *spread))
        places = tuple(slice(None, None, step) for step in geometry.stride)
        far[(slice(None), slice(None), *places)] = grad
        grad = far
    outputs, channels = codes.shape[:2]
    groups = geometry.groups
    turned = codes.view(groups, outputs // groups, channels, *kernel).transpose(1, 2)
    turned = turned.reshape(groups * channels, outputs // groups, *kernel)
    turned = turned.flip(list(range(2, turned.dim()))).contiguous()
    ones = (1,) * geometry.spatial
    way = Geometry(geometry.spatial, ones, pads, geometry.dilation, groups)
    mac = plan_mac(mul, operands)
    with torch.autocast(grad.device.type, enabled=False):  # it would round codes
        return mac.sums(grad.contiguous(), mac.pack(turned, way), way, 0)


@lru_cache(maxsize=256)
def is_silent(mul: Multiplier, operands: Operands, which: int) -> bool:
    """Whether every product is zero whose first operand (0) or second one (1) is.

    >>> from dovetail.multipliers import multiplier
    >>> codes = Operands((-127, 127), (-127, 127))
    >>> [is_silent(multiplier(name), codes, 1) for name in ("mul8s_1KVA", "etm(bits=8)")]
    [True, False]
    """
    low, high = operands.first if which else operands.second
    others = np.arange(low, high + 1)
    pair = np.zeros_like(others), others
    return not np.any(mul(*(pair[::-1] if which else pair)))


def _fake(grad: Tensor, codes: Tensor, arithmetic: str, of_weight: bool) -> Tensor:
    del arithmetic, of_weight
    return grad.new_empty((*grad.shape[:2], codes.shape[1]), dtype=torch.int64)


_library.impl("backward_sums", _sums, "CompositeExplicitAutograd")
register_fake("dovetail::backward_sums", _fake, lib=_library)
register_vmap("dovetail::backward_sums", one_by_one("backward_sums"), lib=_library)
