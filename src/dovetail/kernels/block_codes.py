"""Block formats seen as integers: ``value = code * scale``, one scale per block.

Elements of block floating point and MXINT are such integers, and so are those of narrow floats: a
multiple of their smallest step. A dot of two blocks is then a sum of products of integers, times
both scales, which are powers of two or short numbers themselves (:mod:`.block_pairs` says of which
pairs of formats that is computed exactly).
"""

from __future__ import annotations

from typing import NamedTuple, TypeAlias

import torch
import torch.nn.functional as F
from torch import Tensor

from dovetail.formats import NVFP4, BlockFloat, FixedFormat, FloatFormat, MXFormat, ScaledBlock
from dovetail.formats.bits import layout_of
from dovetail.formats.block import PowerScaled
from dovetail.formats.blocks import blocks_of
from dovetail.formats.realise import round_values, shared_exponents
from dovetail.formats.realise.elements import round_elements
from dovetail.formats.realise.ratios import scaled_parts

__all__ = ["Blocked", "Codes", "encode"]

Blocked: TypeAlias = BlockFloat | MXFormat | ScaledBlock | NVFP4


class Codes(NamedTuple):
    """``codes`` float32 or float64 ``[..., blocks, block]``, the tail filled with zeros, and
    ``scales`` float64 ``[..., blocks]``, of one unit of a code: NaN for a block that is NaN.
    ``whole`` is what the sums are multiplied by in the end, NVFP4's tensor scale (float32)."""

    codes: Tensor
    scales: Tensor
    whole: Tensor | None = None


def encode(x: Tensor, fmt: Blocked, dot: int | None = None) -> Codes:
    """``x [..., K]`` (float32 or float64) in blocks along its last axis, cut in ``dot`` elements.

    Codes are what rounding to the element format gives, also where the value that a code stands
    for overflows ``x``'s dtype. A format that rounds stochastically takes values that are cast
    already: their codes are themselves.

    >>> from dovetail.formats import format
    >>> encode(torch.tensor([1.0, 0.5, -6.0]), format("mxfp4(block=2)"))
    Codes(codes=tensor([[  8.,   4.],
            [-12.,   0.]]), scales=tensor([0.1250, 0.5000], dtype=torch.float64), whole=None)
    """
    length, whole = x.shape[-1], None
    if fmt.rounding.is_stochastic:
        codes, scales = x, _finite_ones(x, fmt)
    elif isinstance(fmt, PowerScaled):
        codes, scales = _by_power(x, fmt)
    else:
        codes, scales, whole = _by_number(x, fmt)
    dot = min(fmt.block if dot is None else dot, length)
    if dot < min(fmt.block, length):
        of = torch.arange(0, length, dot, device=x.device) // fmt.block
        scales = scales.index_select(-1, of)
    codes = F.pad(codes, (0, -length % dot)).unflatten(-1, (-1, dot))
    missing = scales.isnan().unsqueeze(-1)
    return Codes(torch.where(missing, 0.0, codes), scales, whole)


def _finite_ones(x: Tensor, fmt: Blocked) -> Tensor:
    """1 for a block of finite values, else NaN."""
    blocks = blocks_of(x, fmt.block, -1, fmt)
    finite = blocks.split(x).isfinite().all(-1)
    return torch.where(finite, 1.0, torch.nan).double()


def _by_power(x: Tensor, fmt: PowerScaled) -> tuple[Tensor, Tensor]:
    exponents, finite = shared_exponents(x, fmt, -1)
    element = fmt.element
    assert isinstance(element, (FixedFormat, FloatFormat))
    units = exponents.to(torch.int64) + element.quantum
    values = round_values(x, fmt, -1).double()
    blocks = blocks_of(x, fmt.block, -1, fmt)
    codes = blocks.join((blocks.split(values) * _power(-units).unsqueeze(-1)).round()).float()
    return codes, torch.where(finite, _power(units), torch.nan)


def _by_number(x: Tensor, fmt: ScaledBlock | NVFP4) -> tuple[Tensor, Tensor, Tensor | None]:
    element = fmt.element
    assert isinstance(element, (FixedFormat, FloatFormat))
    blocks = blocks_of(x, fmt.block, -1, fmt)
    ratio, step, finite, whole = scaled_parts(blocks.split(x), fmt, blocks, layout_of(x.dtype))
    unit = 2.0**element.quantum
    codes = torch.where(step == 0, 0.0, round_elements(ratio, element, None) / unit)
    scales = torch.where(finite, step.double() * unit, torch.nan).squeeze(-1)
    return blocks.join(codes).float(), scales, whole


def _power(exponents: Tensor) -> Tensor:
    """Powers of two in float64, from their bits: ``torch.ldexp`` goes through float32."""
    return ((exponents + 1023) << 52).view(torch.float64)
