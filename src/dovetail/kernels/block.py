"""A layer whose operands are block formats with integer elements, as hardware computes it.

What it means stands in :mod:`dovetail.kernels.block_reference`; here the fastest realisation that
holds is chosen. All are bit-equal.
"""

from __future__ import annotations

from dataclasses import replace

import torch
from torch import Tensor

from dovetail.errors import DovetailError
from dovetail.formats import BlockFloat, Format, MXFormat
from dovetail.kernels import block_reference, block_torch, native, native_block
from dovetail.kernels.block_codes import Codes, integers, qualifies
from dovetail.kernels.geometry import LINEAR, Geometry
from dovetail.kernels.realisation import forced
from dovetail.kernels.weight_cache import cached

__all__ = ["emulate", "matmul", "qualifies"]


def emulate(
    x: Tensor,
    weight: Tensor,
    bias: Tensor | None,
    first: Format | None,
    second: Format | None,
    geometry: Geometry,
    *,
    keep: bool = True,
) -> Tensor:
    """The layer's result in ``x``'s dtype; no gradient is recorded.

    ``x`` is ``[..., K]`` and ``weight`` ``[N, K]``, or ``[B, C, *spatial]`` and
    ``[O, C/groups, *kernel]``; blocks run along K or along the channels of a group. Sums are
    float32 whatever the dtype of ``x``. ``keep``: pack the weight once, as long as it is the same.

    >>> from dovetail.formats import format
    >>> fmt = format("mxint8(block=2)")
    >>> emulate(torch.tensor([[1.0, 2.0, 3.0]]), torch.ones(2, 3), None, fmt, fmt, LINEAR)
    tensor([[6., 6.]])
    """
    a, w = _fitting(first, second)
    shape = geometry.out_shape(x.shape, weight.shape)
    name = forced() or ""
    if name == "reference":
        added = None if bias is None else bias.detach().cpu().float()
        left, right = x.detach().cpu(), weight.detach().cpu()
        y = block_reference.block_mac(left, right, added, a, w, geometry).to(x.device)
    elif 0 in shape or x.numel() == 0 or weight.numel() == 0:
        y = torch.zeros(shape, device=x.device)
        if bias is not None:
            y = y + bias.detach().float().reshape(-1, *[1] * geometry.spatial)
    elif _is_native(x, a, w) and not name.startswith("torch"):

        def pack() -> native_block.PackedBlocks:
            return native_block.pack(weight, a, w, geometry)

        key = ("blocks", native.isa(), a, w, geometry)
        packed = cached(weight, key, pack) if keep else pack()
        y = native_block.block_mac(x.detach().float(), packed, bias)
    else:

        def encode() -> Codes:
            return block_torch.pack(weight, w, geometry)

        taps = cached(weight, ("block codes", w, geometry), encode) if keep else encode()
        added = None if bias is None else bias.detach()
        y = block_torch.block_mac(x, taps, weight.shape[2:], added, a, w, geometry)
    return y.to(x.dtype)


def matmul(x: Tensor, weight: Tensor, first: Format | None, second: Format | None) -> Tensor:
    """``x [..., M, K] @ weight [..., K, N]`` with broadcast leading dimensions, blocks along K.

    >>> from dovetail.formats import format
    >>> matmul(torch.ones(2, 3), torch.ones(3, 1), format("mxfp4"), format("mxint8"))
    tensor([[3.],
            [3.]])
    """
    batch = torch.broadcast_shapes(x.shape[:-2], weight.shape[:-2])
    if weight.dim() == 2:
        return emulate(x, weight.mT, None, first, second, LINEAR, keep=False)
    rows = x.expand(*batch, *x.shape[-2:]).reshape(-1, *x.shape[-2:])
    columns = weight.expand(*batch, *weight.shape[-2:]).reshape(-1, *weight.shape[-2:])
    out = x.new_empty(rows.shape[0], x.shape[-2], weight.shape[-1])
    for i in range(rows.shape[0]):
        out[i] = emulate(rows[i], columns[i].mT, None, first, second, LINEAR, keep=False)
    return out.reshape(*batch, *out.shape[1:])


def _is_native(x: Tensor, first: BlockFloat | MXFormat, second: BlockFloat | MXFormat) -> bool:
    return x.device.type == "cpu" and x.dtype != torch.float64 and native_block.holds(first, second)


def _fitting(
    first: Format | None, second: Format | None
) -> tuple[BlockFloat | MXFormat, BlockFloat | MXFormat]:
    """Both formats, their axis left to the op, or the reason why there is no such product."""
    for slot, fmt in (("input", first), ("weight", second)):
        if not isinstance(fmt, (BlockFloat, MXFormat)) or not integers(fmt):
            raise DovetailError(
                f"{slot}={fmt}: products of blocks need integer elements that share a power of "
                "two; the nearest is 'mxint8'"
            )
    assert isinstance(first, (BlockFloat, MXFormat))
    assert isinstance(second, (BlockFloat, MXFormat))
    if first.block != second.block:
        raise DovetailError(
            f"input={first} and weight={second}: blocks of {first.block} do not meet blocks of "
            f"{second.block}; the nearest that works is '{replace(second, block=first.block)}'"
        )
    return replace(first, axis=None), replace(second, axis=None)
