"""One multiply-accumulate layer, from floating-point operands to a floating-point result.

    codes of x and w -> exact sums of f(a, w) -> accumulator -> zero-point terms -> scale, bias

Zero-point terms are exact and stay outside the multiplier; behind a floating-point accumulator they
are added in float64. The last step is, in this order and with
each operation rounded separately, ``float(sum) * (x_scale * w_scale) + bias``.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from functools import lru_cache

import torch
from torch import Tensor

from dovetail.arithmetic import Arithmetic
from dovetail.errors import DovetailError
from dovetail.formats import IntFormat
from dovetail.formats.realise import round_integers
from dovetail.formats.rounding import NEAREST_EVEN
from dovetail.kernels import native
from dovetail.kernels.accumulated_mac import plan_accumulated
from dovetail.kernels.geometry import Geometry
from dovetail.kernels.native_integers import codes_of
from dovetail.kernels.planner import plan_mac
from dovetail.kernels.ranges import Range, operand_range, weight_range
from dovetail.kernels.realisation import MacKernel, Operands, forced
from dovetail.kernels.weight_cache import cached
from dovetail.multipliers import multiplier

__all__ = ["Way", "code_range", "emulate", "integer", "way_of", "weight_codes"]


@dataclass(frozen=True, eq=False)
class Way:
    """How layers of one arithmetic, geometry and reduction are computed."""

    kernel: MacKernel
    input: IntFormat
    weight: IntFormat
    geometry: Geometry
    fuses: bool  # no sum, zero-point terms included, can leave 32 bits or the accumulator


@dataclass(eq=False)
class _Weight:
    """A weight as the kernel wants it, and what the zero-point terms need of it."""

    packed: object
    scale: Tensor  # [] or [N]
    zero_point: Tensor  # [] or [N]
    code_sums: Tensor  # [N] int64
    affine: bool
    shape: tuple[int, ...]
    scaled: tuple[float, Tensor] = (0.0, torch.empty(0))  # the latest of output_scale

    def output_scale(self, scale: Tensor, value: float) -> Tensor:
        """``[N]``: what one unit of each output's sum stands for, the input's being ``scale``."""
        known, scales = self.scaled
        if known != value:
            scales = (scale * self.scale).expand(self.shape[0]).contiguous()
            self.scaled = (value, scales)
        return scales


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
    geometry.out_shape(x.shape, weight.shape)  # refuses shapes that do not fit
    way = way_of(arithmetic, geometry, weight.shape, x.device.type)
    w = _weight(weight, w_range, way)
    scale, zero = operand_range(x, way.input, "input", x_range)
    if (y := _fused(x, bias, scale, zero, w, way)) is not None:
        return y
    zero_point = int(zero)
    codes = codes_of(x, way.input, scale, zero)
    total = way.kernel.sums(codes, w.packed, geometry, zero_point)
    total = total + _zero_point_terms(codes, w, zero_point, geometry)
    return _scaled(total, x.dtype, scale, w, bias, geometry)


def weight_codes(weight: Tensor, fmt: IntFormat, given: Range | None) -> tuple[Tensor, Range]:
    """Codes of a weight and the range that they were made with."""
    scale, zero = weight_range(weight, fmt) if given is None else given
    axis = 0 if scale.dim() else None
    return codes_of(weight.detach(), fmt, scale, zero, axis), (scale, zero)


def way_of(
    arithmetic: Arithmetic, geometry: Geometry, weight: Sequence[int], device: str = "cpu"
) -> Way:
    """How a layer whose weight has this shape is computed, on this machine as it is set now.

    >>> from dovetail.kernels.geometry import LINEAR
    >>> from dovetail.formats import format
    >>> rule = Arithmetic(format("int8"), format("int8"))
    >>> way_of(rule, LINEAR, (3, 4)).fuses
    True
    """
    # Packed weights belong to one instruction-set level and one realisation.
    level = native.isa() if native.available() else None
    return _planned(arithmetic, geometry, geometry.reduction(weight), device, forced(), level)


@lru_cache(maxsize=1024)
def _planned(
    arithmetic: Arithmetic,
    geometry: Geometry,
    reduction: int,
    device: str,
    _forced: str | None,
    _level: str | None,
) -> Way:
    fmt, w_fmt, acc = integer(arithmetic.input), integer(arithmetic.weight), arithmetic.acc
    operands = Operands(*arithmetic.code_ranges, device)
    kernel = plan_accumulated(arithmetic.code_multiplier, operands, acc, reduction)
    bound = operands.bound(arithmetic.code_multiplier) * reduction
    shift = max(map(abs, operands.first)) * max(map(abs, operands.second)) * reduction
    most = bound if acc is None or acc.holds(bound) else acc.most(bound)
    fuses = most is not None and most + shift < 2**kernel.sum_bits and not w_fmt.affine
    return Way(kernel, fmt, w_fmt, geometry, fuses)


def integer(fmt: object) -> IntFormat:
    """``fmt``, refused unless it has integer codes."""
    if not isinstance(fmt, IntFormat):
        raise DovetailError(f"products of codes need integer formats, not {fmt}")
    return fmt


def _weight(weight: Tensor, given: Range | None, way: Way) -> _Weight:
    fmt = way.weight

    def make() -> _Weight:
        codes, (scale, zero) = weight_codes(weight, fmt, given)
        packed = way.kernel.pack(codes, way.geometry)
        code_sums = way.kernel.weight_sums(packed)
        if code_sums is None:
            code_sums = codes.flatten(1).sum(1, dtype=torch.int64)
        return _Weight(packed, scale, zero, code_sums, fmt.affine, tuple(weight.shape))

    if given is not None:
        return make()  # a calibrated second operand is an activation: it changes at every call
    return cached(weight, way, make)


def _fused(
    x: Tensor, bias: Tensor | None, scale: Tensor, zero: Tensor, w: _Weight, way: Way
) -> Tensor | None:
    """The whole layer in one pass, where the kernel offers it and nothing can overflow.

    That pass quantises to nearest: what is rounded otherwise is rounded before.
    """
    if x.dtype != torch.float32 or not way.fuses or scale.dim():
        return None
    if way.input.rounding != NEAREST_EVEN:
        x = round_integers(x.detach(), way.input, scale, zero)
    step = float(scale)
    quantizer = (step, int(zero), way.input.qmin, way.input.qmax)
    scales = w.output_scale(scale, step)
    return way.kernel.fused(x, quantizer, w.packed, way.geometry, scales, bias)


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
