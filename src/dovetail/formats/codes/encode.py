"""``dv.encode``: a tensor as packed codes and scales."""

from __future__ import annotations

import torch
from torch import Tensor

from dovetail.errors import DovetailError, unknown
from dovetail.formats.base import BlockFormat, ElementFormat, Format, Same
from dovetail.formats.block import PowerScaled
from dovetail.formats.codes.boxes import axis_of, boxes, local, seen_along
from dovetail.formats.codes.layout import fits_float32, to_codes
from dovetail.formats.codes.packing import code_dtype, pack
from dovetail.formats.codes.scaling import Scales, per_block, scales_of
from dovetail.formats.codes.value import Codes
from dovetail.formats.fixed import FixedFormat
from dovetail.formats.grid import Grid, grid_of, groups_of, tensor_scale
from dovetail.formats.integer import IntFormat
from dovetail.formats.nan import has_nan, refuse_nan
from dovetail.formats.operand import check_operand
from dovetail.formats.philox import seed_from
from dovetail.formats.quantization import quantize
from dovetail.formats.realise import is_stochastic, round_values
from dovetail.formats.realise.stochastic import words_of
from dovetail.formats.registry import format as to_format
from dovetail.formats.scaled import NVFP4

__all__ = ["encode"]


def encode(
    x: Tensor,
    fmt: str | Format,
    axis: int | None = None,
    *,
    scale: Tensor | float | None = None,
    zero_point: Tensor | int | None = None,
    channel: int | None = None,
    nan: str = "refuse",
    generator: torch.Generator | None = None,
) -> Codes:
    """``x`` rounded to ``fmt`` as :func:`dovetail.cast` rounds it, in the format's own bits.

    ``dv.decode(dv.encode(x, fmt, axis))`` has the bits of ``dv.cast(x, fmt, axis)`` (a NaN may have
    another payload or sign), for all formats, shapes, strides and dtypes (float64/32/16, bfloat16).
    The layouts are those of the standards: OCP OFP8 and MX, IEEE 754 and P3109, the Posit Standard,
    two's complement; see :class:`Codes` for what is stored. No gradient.

    ``axis``, ``scale``, ``zero_point``, ``channel`` and ``generator`` mean what they mean for
    ``dv.cast``. A value without a code is refused, with the count: NaN where the format has none
    (``nan="zero"`` encodes it as 0, which is what ``dv.cast`` does with integer formats), and what
    is beyond the codes of a fixed-point format that does not clamp.

    >>> encode(torch.tensor([1.0, 0.5, 7.0, -5.0]), "fp4_e2m1fn").codes
    tensor([ 18, 231], dtype=torch.uint8)
    >>> encode(torch.tensor([1.0, torch.nan]), "fp4_e2m1fn")
    Traceback (most recent call last):
    dovetail.errors.DovetailError: 'fp4_e2m1fn' has no code for NaN, and 1 of 2 values is NaN: ...
    """
    number = to_format(fmt)
    check_operand("encode", x, fmt, axis)
    if nan not in ("refuse", "zero"):
        raise unknown("nan", nan, ("refuse", "zero"))
    x = x.detach()
    seed = seed_from(generator, x.device) if is_stochastic(number) else None
    if isinstance(number, (IntFormat, BlockFormat, ElementFormat)):
        x = _without_nan(x, number, nan)
    if isinstance(number, IntFormat):
        grid = grid_of(x, number, axis, scale, zero_point, channel)
        return _encode_integer(x, number, grid, seed)
    whole = tensor_scale(x, number, scale, zero_point, channel)
    if isinstance(number, Same):
        packed = x.reshape(-1).contiguous().view(torch.uint8).clone()
        return Codes(packed, number, tuple(x.shape), x.dtype)
    if isinstance(number, BlockFormat):
        return _encode_blocks(x, number, axis_of(number, axis, x.dim()), seed, whole)
    if not isinstance(number, ElementFormat):
        raise DovetailError(
            f"'{number}' has no codes of its own; the nearest is to encode the tensor that its "
            "inner format is cast on, such as dv.encode(x.permute(1, 0), 'mxfp4')"
        )
    codes = _element_codes(x.reshape(1, -1, 1), number, 1, None, seed)
    return Codes(pack(codes, number.bits), number, tuple(x.shape), x.dtype)


def _without_nan(x: Tensor, fmt: Format, nan: str) -> Tensor:
    """``x`` with NaN as zero if that is asked for; else refused if it holds any."""
    if nan == "refuse":
        refuse_nan(x, fmt, "nan='zero' encodes them as 0")
        return x
    return x if has_nan(fmt) else torch.where(x.isnan(), 0.0, x)


def _encode_blocks(
    x: Tensor, fmt: BlockFormat, axis: int, seed: Tensor | None, whole: Tensor | None
) -> Codes:
    seen = seen_along(x, axis)
    free = local(fmt, seen.shape[1])
    scales = scales_of(seen, free, whole) if x.numel() else _no_scales(x, fmt, whole)
    if isinstance(fmt, PowerScaled) and x.dtype == torch.float64:
        seen = _lifted(seen)
    codes = _element_codes(seen, free.element, free.block, scales, seed)
    return Codes(
        pack(codes, fmt.bits),
        fmt,
        tuple(x.shape),
        x.dtype,
        axis,
        pack(scales.codes, fmt.scale_bits),
        tensor_scale=scales.tensor,
    )


def _lifted(x: Tensor) -> Tensor:
    """float64 values that division by a power-of-two scale cannot turn into zero.

    What is so far below any format's smallest step is rounded as any other such value of its sign.
    """
    tiny = torch.full_like(x, 2.0**-800)
    return torch.where((x != 0) & (x.abs() < tiny), torch.copysign(tiny, x), x)


def _no_scales(x: Tensor, fmt: BlockFormat, whole: Tensor | None) -> Scales:
    """Those of an empty tensor."""
    one = torch.ones((), device=x.device) if isinstance(fmt, NVFP4) and whole is None else whole
    return Scales(x.new_empty(0, dtype=torch.uint8), x.new_empty(0), False, one)


def _element_codes(
    x: Tensor, fmt: ElementFormat, block: int, scales: Scales | None, seed: Tensor | None
) -> Tensor:
    """Codes of ``x`` [outer, length, inner], divided by its blocks' scales if it has any."""
    codes = torch.empty(x.shape, dtype=code_dtype(fmt.bits), device=x.device)
    narrow = fits_float32(fmt)
    beyond = 0
    # Random bits belong to an element's place in the whole tensor: all in one box.
    limit = {} if seed is None else {"limit": 1 << 62}
    for o, n, i in boxes(tuple(x.shape), block, **limit):
        part = x[o, n, i]
        if scales is not None:
            at = slice(n.start // block, -(-n.stop // block))
            factor = scales.factor[o, at, i]
            part = per_block(part.to(factor.dtype), factor, block, scales.divides)
        wide = torch.float32 if narrow and part.dtype != torch.float64 else torch.float64
        rounded = round_values(part.to(wide), fmt, seed=seed)
        if isinstance(fmt, FixedFormat) and not fmt.clamp:
            outside = (rounded < fmt.min) | (rounded > fmt.max)
            beyond += int(outside.sum())
            rounded = torch.where(outside, 0.0, rounded)
        codes[o, n, i] = to_codes(rounded, fmt)
    if beyond:
        raise DovetailError(
            f"'{fmt}' has codes from {fmt.min} to {fmt.max}, and {beyond} of {x.numel()} values "
            "lie beyond them; the nearest format that clamps is the same with clamp=True"
        )
    return codes


def _encode_integer(x: Tensor, fmt: IntFormat, grid: Grid, seed: Tensor | None) -> Codes:
    if not fmt.affine and bool((grid.zero_point != 0).any()):
        raise DovetailError(
            f"'{fmt}' is symmetric and stores no zero point; the nearest format that does is "
            f"'{'' if fmt.signed else 'u'}int{fmt.bits}{'(affine)' if fmt.signed else ''}'"
        )
    scale, zero, words = grid.scale, grid.zero_point, words_of(x, fmt, seed)
    if not x.numel():
        quantized = x
    elif fmt.group is None:
        quantized = quantize(x, fmt, scale, zero, grid.axis, words)
    else:
        assert grid.axis is not None
        blocks = groups_of(x, fmt, grid.axis)
        steps, zeros = (t.unsqueeze(grid.axis + 1) for t in (scale, zero))
        drawn = None if words is None else blocks.split(words)
        quantized = blocks.join(quantize(blocks.split(x), fmt, steps, zeros, words=drawn))
    codes = (quantized.to(torch.int32) & ((1 << fmt.bits) - 1)).to(code_dtype(fmt.bits))
    return Codes(
        pack(codes, fmt.bits),
        fmt,
        tuple(x.shape),
        x.dtype,
        grid.axis,
        scale.clone(),
        zero.clone() if fmt.affine else None,
    )
