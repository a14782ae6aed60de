"""What block formats store beside their elements: one code per block, and NVFP4's tensor scale.

BFP and MX store the exponent of a block's power of two plus 127 in a byte (for MX that is E8M0);
255 means that the block is NaN. Scaled blocks store the code of their scale format, NVFP4 that of
UE4M3 (E4M3 whose sign is always 0), where the scale's NaN means the same.

Tensors are seen as ``[outer, length, inner]`` with blocks along ``length``; scales as
``[outer, blocks, inner]``.
"""

from __future__ import annotations

from typing import NamedTuple

import torch
import torch.nn.functional as F
from torch import Tensor

from dovetail.errors import DovetailError
from dovetail.formats.base import BlockFormat
from dovetail.formats.bits import power_of_two
from dovetail.formats.block import PowerScaled
from dovetail.formats.codes.layout import from_codes, nan_code, narrowed, to_codes
from dovetail.formats.floating import FloatFormat
from dovetail.formats.realise import round_values, shared_exponents
from dovetail.formats.realise.ratios import quotient, two_levels
from dovetail.formats.scaled import E4M3, NVFP4, ScaledBlock

__all__ = ["Scales", "in_blocks", "per_block", "scale_factors", "scales_of"]

_BIAS = 127
_NAN = 255


class Scales(NamedTuple):
    """The stored codes of the blocks' scales, and how an element comes from its value.

    Elements are ``round(x / factor)`` if ``divides``, else ``round(x * factor)``; the factor of a
    block that is stored as zeros, whatever it holds, is 0. ``tensor`` is NVFP4's tensor scale.
    """

    codes: Tensor
    factor: Tensor
    divides: bool
    tensor: Tensor | None = None


def in_blocks(x: Tensor, block: int) -> Tensor:
    """``[outer, length, inner]`` as ``[outer, blocks, block, inner]``, zeros behind a short end.

    >>> in_blocks(torch.ones(1, 3, 1), 2).flatten().tolist()
    [1.0, 1.0, 1.0, 0.0]
    """
    short = -x.shape[1] % block
    padded = F.pad(x, (0, 0, 0, short)) if short else x
    blocks: Tensor = torch.unflatten(padded, 1, (-1, block))
    return blocks


def per_block(x: Tensor, scale: Tensor, block: int, divides: bool = False) -> Tensor:
    """Each element of ``x`` times, or divided by, its block's ``scale``; 0 where that is 0.

    >>> x, scale = torch.ones(1, 3, 1), torch.tensor([2.0, 0.0]).view(1, 2, 1)
    >>> per_block(x, scale, 2, divides=True).flatten().tolist()
    [0.5, 0.5, 0.0]
    """
    blocks, factor = in_blocks(x, block), scale.unsqueeze(2)
    y = blocks / factor if divides else blocks * factor
    if bool((scale == 0).any()):
        y = torch.where(factor == 0, 0.0, y)
    return torch.flatten(y, 1, 2)[:, : x.shape[1]]


def scales_of(x: Tensor, fmt: BlockFormat, given: Tensor | None = None) -> Scales:
    """The scales of ``x`` [outer, length, inner], as casts choose them.

    The factor is float64 for powers of two, else in the precision that the cast computes in:
    float64 for float64 input, float32 for everything else. ``given`` is NVFP4's tensor scale.

    >>> from dovetail.formats import format
    >>> x = torch.tensor([1.0, 7.0, 0.1, 0.0]).view(1, 4, 1)
    >>> found = scales_of(x, format("mxfp4(block=2)"))
    >>> found.codes.flatten().tolist(), found.factor.flatten().tolist()
    ([127, 121], [1.0, 64.0])
    """
    if isinstance(fmt, PowerScaled):
        exponent, finite = shared_exponents(x, fmt, 1)
        codes = torch.where(finite, exponent + _BIAS, _NAN).to(torch.uint8)
        return Scales(codes, torch.where(finite, power_of_two(-exponent), 0.0), divides=False)
    wide = torch.float64 if x.dtype == torch.float64 else torch.float32
    largest = in_blocks(x.to(wide).abs(), fmt.block).amax(2)
    finite = torch.isfinite(largest)
    largest = torch.where(finite, largest, 0.0)
    if isinstance(fmt, NVFP4):
        return _two_levels(largest, finite, wide, given)
    assert isinstance(fmt, ScaledBlock)
    step = round_values(quotient(largest, fmt.element.max), fmt.scale)
    codes = _with_nan(to_codes(step, fmt.scale), finite, fmt.scale, fmt)
    return Scales(codes, torch.where(finite, step, 0.0), divides=True)


def scale_factors(
    codes: Tensor, fmt: BlockFormat, tensor: Tensor | None, dtype: torch.dtype
) -> Tensor:
    """What elements are multiplied by, in float32 or float64, from the codes of their scales.

    >>> from dovetail.formats import format
    >>> codes = torch.tensor([127, 255], dtype=torch.uint8)
    >>> scale_factors(codes, format("mxfp4"), None, torch.float32)
    tensor([1., nan])
    """
    if isinstance(fmt, PowerScaled):
        power = power_of_two(codes.to(torch.int64) - _BIAS).to(dtype)
        return torch.where(codes == _NAN, torch.nan, power)
    if isinstance(fmt, NVFP4):
        assert tensor is not None
        return (tensor * from_codes(codes, E4M3, torch.float32)).to(dtype)
    assert isinstance(fmt, ScaledBlock)
    return narrowed(from_codes(codes, fmt.scale), dtype)


def _two_levels(largest: Tensor, finite: Tensor, wide: torch.dtype, given: Tensor | None) -> Scales:
    """NVFP4, in float32: see the format's own words."""
    whole, scale = two_levels(largest, given)
    factor = torch.where(finite, torch.reciprocal(whole) / scale, 0.0)
    codes = _with_nan(to_codes(scale, E4M3), finite, E4M3, NVFP4())
    return Scales(codes, factor.to(wide), divides=False, tensor=whole)


def _with_nan(codes: Tensor, finite: Tensor, scale: FloatFormat, fmt: BlockFormat) -> Tensor:
    nan, damaged = nan_code(scale), int((~finite).sum())
    if nan is None and damaged:
        raise DovetailError(
            f"'{fmt}' has no code for a block that holds NaN or an infinity, and {damaged} of the "
            f"{finite.numel()} blocks do: its scale '{scale}' has none for NaN. Replace them first "
            "(x.nan_to_num()), or take a scale that has one, such as 'fp8_e4m3fn'"
        )
    return codes if nan is None else torch.where(finite, codes, nan)
