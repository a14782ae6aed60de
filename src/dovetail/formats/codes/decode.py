"""``dv.decode``: the tensor that packed codes and scales stand for."""

from __future__ import annotations

import torch
from torch import Tensor

from dovetail.errors import DovetailError
from dovetail.formats.base import BlockFormat, ElementFormat, Same
from dovetail.formats.codes.boxes import LIMIT, boxes, local, seen_along
from dovetail.formats.codes.layout import from_codes
from dovetail.formats.codes.packing import packed_size, unpack
from dovetail.formats.codes.scaling import per_block, scale_factors
from dovetail.formats.codes.value import Codes
from dovetail.formats.grid import groups_of
from dovetail.formats.integer import IntFormat
from dovetail.formats.quantization import dequantize

__all__ = ["decode"]


def decode(codes: Codes) -> Tensor:
    """The values of ``codes`` in its shape and dtype, contiguous, on its device.

    Each value is the format's, rounded to the dtype where that cannot hold it (float16 and bfloat16
    by way of float32). A NaN code is NaN, an infinity's infinity. In block formats values beyond
    the dtype's range become its largest finite value, as casts have it.

    >>> from dovetail.formats.codes import encode
    >>> decode(encode(torch.tensor([1.0, 0.5, 7.0, -5.0]), "mxfp4(block=4)"))
    tensor([ 1.0000,  0.5000,  6.0000, -4.0000])
    """
    if not isinstance(codes, Codes):
        raise DovetailError(f"decode takes what dv.encode returned, not {codes!r:.60}")
    fmt = codes.format
    if isinstance(fmt, Same):
        return codes.codes.clone().view(codes.dtype).view(codes.shape)
    if isinstance(fmt, IntFormat):
        return _decode_integer(codes, fmt)
    if isinstance(fmt, BlockFormat):
        return _decode_blocks(codes, fmt)
    assert isinstance(fmt, ElementFormat)
    out = torch.empty(codes.numel, dtype=codes.dtype, device=codes.codes.device)
    for start in range(0, codes.numel, LIMIT):  # a multiple of 8: parts start at whole bytes
        stop = min(start + LIMIT, codes.numel)
        part = codes.codes[start * fmt.bits // 8 : packed_size(stop, fmt.bits)]
        out[start:stop] = from_codes(unpack(part, fmt.bits, stop - start), fmt, codes.dtype)
    return out.view(codes.shape)


def _decode_integer(codes: Codes, fmt: IntFormat) -> Tensor:
    assert codes.scales is not None
    sign = fmt.signed << (fmt.bits - 1)
    steps = (codes.element_codes().to(torch.int32) ^ sign) - sign
    zero = codes.zero_points
    if zero is None:
        zero = torch.zeros_like(codes.scales, dtype=torch.int32)
    if not codes.numel:
        return torch.empty(codes.shape, dtype=codes.dtype, device=codes.codes.device)
    if fmt.group is None:
        return dequantize(steps, codes.scales, zero, codes.axis, codes.dtype)
    assert codes.axis is not None
    blocks = groups_of(steps, fmt, codes.axis)
    scale, zero = (t.unsqueeze(codes.axis + 1) for t in (codes.scales, zero))
    values = dequantize(blocks.split(steps), scale, zero, dtype=codes.dtype)
    return blocks.join(values).contiguous()


def _decode_blocks(codes: Codes, fmt: BlockFormat) -> Tensor:
    scale_codes = codes.scale_codes()
    assert codes.axis is not None
    assert scale_codes is not None
    wide = torch.float64 if codes.dtype == torch.float64 else torch.float32
    out = torch.empty(codes.shape, dtype=codes.dtype, device=codes.codes.device)
    if not codes.numel:
        return out
    elements, seen = seen_along(codes.element_codes(), codes.axis), seen_along(out, codes.axis)
    free = local(fmt, seen.shape[1])
    scale_codes = seen_along(scale_codes, codes.axis)
    factors = scale_factors(scale_codes, free, codes.tensor_scale, wide)
    top = torch.finfo(codes.dtype).max
    for o, n, i in boxes(tuple(seen.shape), free.block):
        at = slice(n.start // free.block, -(-n.stop // free.block))
        value = from_codes(elements[o, n, i], free.element, wide)
        y = per_block(value, factors[o, at, i], free.block)
        infinite = value.isinf() if free.element.has_inf else None
        clamped = y.clamp(-top, top)
        seen[o, n, i] = clamped if infinite is None else torch.where(infinite, y, clamped)
    return out
