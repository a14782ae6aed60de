"""One multiply-accumulate layer, from floating-point operands to a floating-point result.

    codes of x and w -> exact sums of f(a, w) -> accumulator -> zero-point terms -> scale, bias

Zero-point terms are exact and stay outside the multiplier; behind a floating-point accumulator they
are added in float64. The last step is, in this order and with
each operation rounded separately, ``float(sum) * (x_scale * w_scale) + bias``.
"""

from __future__ import annotations

from dataclasses import dataclass

import torch
from torch import Tensor

from dovetail.arithmetic import Arithmetic
from dovetail.errors import DovetailError
from dovetail.formats import IntFormat
from dovetail.formats.quantization import quantize
from dovetail.kernels.accumulate import plan_accumulated
from dovetail.kernels.geometry import Geometry
from dovetail.kernels.planner import plan_mac
from dovetail.kernels.ranges import Range, operand_range
from dovetail.kernels.realisation import MacKernel, Operands
from dovetail.kernels.weight_cache import cached
from dovetail.multipliers import multiplier

__all__ = ["code_range", "emulate", "integer", "weight_codes"]


@dataclass(frozen=True)
class _Weight:
    """A weight as the kernel wants it, and what the zero-point terms need of it."""

    packed: object
    scale: Tensor  # [] or [N]
    zero_point: Tensor  # [] or [N]
    code_sums: Tensor  # [N] int64
    affine: bool
    shape: tuple[int, ...]


def code_range(fmt: IntFormat) -> tuple[int, int]:
    """Lowest and highest code."""
    return fmt.qmin, fmt.qmax


def emulate(
    x: Tensor,
    weight: Tensor,
    bias: Tensor | None,
    x_range: Range | None,
    w_range: Range | None,
    arithmetic: Arithmetic,
    geometry: Geometry,
) -> Tensor:
    """The emulated layer's result in ``x``'s dtype; no gradient is recorded.

    ``x`` is ``[..., K]`` and ``weight`` ``[N, K]``, or ``[B, C, *spatial]`` and
    ``[O, C/groups, *kernel]``. A range of ``None`` is taken from the tensor itself.
    """
    fmt = integer(arithmetic.input)
    shape = geometry.out_shape(x.shape, weight.shape)
    kernel = _kernel(arithmetic, x.device, geometry.reduction(weight.shape))
    w = _weight(weight, w_range, arithmetic, geometry, kernel)
    scale, zero = operand_range(x, fmt, "input", x_range)
    if fused := _fused(x, bias, scale, zero, w, arithmetic, geometry, kernel):
        return fused[0].reshape(shape)
    zero_point = int(zero)
    codes = quantize(x, fmt, scale, zero)
    total = kernel.sums(codes, w.packed, geometry, zero_point)
    total = total + _zero_point_terms(codes, w, zero_point, geometry)
    return _scaled(total, x.dtype, scale, w, bias, geometry)


def weight_codes(weight: Tensor, fmt: IntFormat, given: Range | None) -> tuple[Tensor, Range]:
    """Codes of a weight and the range that they were made with."""
    scale, zero = operand_range(weight, fmt, "weight", given)
    axis = 0 if scale.dim() else None
    return quantize(weight, fmt, scale, zero, axis), (scale, zero)


def _kernel(arithmetic: Arithmetic, device: torch.device, reduction: int) -> MacKernel:
    first, second = integer(arithmetic.input), integer(arithmetic.weight)
    operands = Operands(code_range(first), code_range(second), device.type)
    return plan_accumulated(arithmetic.mul, operands, arithmetic.acc, reduction)


def integer(fmt: object) -> IntFormat:
    """``fmt``, refused unless it has integer codes."""
    if not isinstance(fmt, IntFormat):
        raise DovetailError(f"products of codes need integer formats, not {fmt}")
    return fmt


def _weight(
    weight: Tensor,
    given: Range | None,
    arithmetic: Arithmetic,
    geometry: Geometry,
    kernel: MacKernel,
) -> _Weight:
    fmt = integer(arithmetic.weight)

    def make() -> _Weight:
        codes, (scale, zero) = weight_codes(weight.detach(), fmt, given)
        code_sums = codes.flatten(1).sum(1, dtype=torch.int64)
        packed = kernel.pack(codes, geometry)
        return _Weight(packed, scale, zero, code_sums, fmt.affine, tuple(weight.shape))

    if given is not None:
        return make()  # a calibrated second operand is an activation: it changes at every call
    return cached(weight, (kernel, fmt, geometry), make)


def _fused(
    x: Tensor,
    bias: Tensor | None,
    scale: Tensor,
    zero: Tensor,
    w: _Weight,
    arithmetic: Arithmetic,
    geometry: Geometry,
    kernel: MacKernel,
) -> tuple[Tensor] | None:
    """The whole layer in one pass, where the kernel offers it and nothing can overflow."""
    fmt = integer(arithmetic.input)
    first, second = code_range(fmt), code_range(integer(arithmetic.weight))
    bound = Operands(first, second).bound(arithmetic.mul) * geometry.reduction(w.shape)
    shift = max(map(abs, first)) * max(map(abs, second)) * geometry.reduction(w.shape)
    proven = bound + shift < 2**31 and (arithmetic.acc is None or arithmetic.acc.holds(bound))
    if x.dtype != torch.float32 or w.affine or not proven or scale.dim():
        return None
    quantizer = (float(scale), int(zero), fmt.qmin, fmt.qmax)
    scales = (scale * w.scale).expand(w.shape[0])
    y = kernel.fused(x, quantizer, w.packed, geometry, scales, bias)
    return None if y is None else (y,)


def _zero_point_terms(codes: Tensor, w: _Weight, zero: int, geometry: Geometry) -> Tensor:
    """``-zx * sum(w) - zw * sum(a) + K * zx * zw``, to be added to ``sum(f(a, w))``."""
    terms = -zero * w.code_sums
    if w.affine:
        terms = terms + geometry.reduction(w.shape) * zero * w.zero_point.to(torch.int64)
    terms = _per_output(terms, geometry)
    if not w.affine:
        return terms
    sums = _window_sums(codes, w.shape, zero, geometry)
    return terms - _per_output(w.zero_point.to(torch.int64), geometry) * sums


def _window_sums(codes: Tensor, w: tuple[int, ...], zero: int, geometry: Geometry) -> Tensor:
    """The sum of the input codes under each output's window, padded pixels included."""
    ones = torch.ones((geometry.groups, *w[1:]), dtype=torch.int8, device=codes.device)
    low, high = torch.iinfo(codes.dtype).min, torch.iinfo(codes.dtype).max
    operands = Operands((low, high), (1, 1), codes.device.type)
    kernel = plan_mac(multiplier("exact"), operands)
    sums = kernel.sums(codes, kernel.pack(ones, geometry), geometry, zero).to(torch.int64)
    if geometry.spatial == 0:
        return sums  # [..., 1]
    return sums.repeat_interleave(w[0] // geometry.groups, dim=1)


def _per_output(values: Tensor, geometry: Geometry) -> Tensor:
    """``[N]`` values shaped to broadcast over the result."""
    return values if values.dim() == 0 else values.view(-1, *[1] * geometry.spatial)


def _scaled(
    total: Tensor,
    dtype: torch.dtype,
    scale: Tensor,
    w: _Weight,
    bias: Tensor | None,
    geometry: Geometry,
) -> Tensor:
    wide = torch.float64 if dtype == torch.float64 else torch.float32
    y = total.to(wide) * _per_output(scale.to(wide) * w.scale.to(wide), geometry)
    if bias is not None:
        y = y + _per_output(bias.detach().to(wide), geometry)
    return y.to(dtype)
