"""A layer whose operands are block formats, as hardware computes it.

What it means stands in :mod:`dovetail.kernels.block_reference`; here the fastest realisation that
holds is chosen. All are bit-equal. An accumulator other than ``fp32`` in order runs in torch.
"""

from __future__ import annotations

from dataclasses import replace
from math import prod

import torch
from torch import Tensor

from dovetail.accumulators import Accumulator, accumulator
from dovetail.errors import DovetailError
from dovetail.formats import Format
from dovetail.kernels import block_reference, block_torch, native, native_block
from dovetail.kernels.accumulate import Totals
from dovetail.kernels.block_codes import Blocked, Codes
from dovetail.kernels.block_pairs import Pair, pair_of, why_not
from dovetail.kernels.geometry import LINEAR, Geometry
from dovetail.kernels.realisation import forced
from dovetail.kernels.weight_cache import cached

__all__ = ["FEW_ROWS", "emulate", "fitting", "matmul", "matmul_totals", "totals"]

_FP32 = accumulator("fp32")
FEW_ROWS = 8  #: up to which reading the weight takes longer than multiplying it


def emulate(
    x: Tensor,
    weight: Tensor,
    bias: Tensor | None,
    first: Format | None,
    second: Format | None,
    geometry: Geometry,
    acc: Accumulator | None = None,
    *,
    keep: bool = True,
) -> Tensor:
    """The layer's result in ``x``'s dtype; no gradient is recorded.

    ``x`` is ``[..., K]`` and ``weight`` ``[N, K]``, or ``[B, C, *spatial]`` and
    ``[O, C/groups, *kernel]``; blocks run along K or along the channels of a group. Sums are
    float32 whatever the dtype of ``x``. ``acc`` takes the blocks' dots, scaled, in float32, one
    after the other; ``None`` is ``fp32``. ``keep``: pack the weight once, as long as it is the
    same. An operand whose format rounds stochastically is cast already.

    >>> from dovetail.formats import format
    >>> fmt = format("mxint8(block=2)")
    >>> emulate(torch.tensor([[1.0, 2.0, 3.0]]), torch.ones(2, 3), None, fmt, fmt, LINEAR)
    tensor([[6., 6.]])
    """
    pair = fitting(first, second)
    acc = None if acc == _FP32 else acc
    shape = geometry.out_shape(x.shape, weight.shape)
    name = forced() or ""
    if name == "reference":
        added = None if bias is None else bias.detach().cpu().float()
        left, right = x.detach().cpu(), weight.detach().cpu()
        formats = (pair.first, pair.second)
        y = block_reference.block_mac(left, right, added, *formats, geometry, acc).to(x.device)
    elif 0 in shape or x.numel() == 0 or weight.numel() == 0:
        y = torch.zeros(shape, device=x.device)
        if bias is not None:
            y = y + bias.detach().float().reshape(-1, *[1] * geometry.spatial)
    elif acc is None and _is_native(x, weight, pair) and not name.startswith("torch"):
        few = geometry.spatial == 0 and x.numel() <= FEW_ROWS * x.shape[-1]

        def pack() -> native_block.PackedBlocks:
            return native_block.pack(weight, pair, geometry, few)

        key = ("blocks", native.isa(), pair, geometry, few)
        packed = cached(weight, key, pack) if keep else pack()
        y = native_block.block_mac(x.detach().float(), packed, bias)
    else:
        taps = _taps(weight, pair, geometry, keep)
        added = None if bias is None else bias.detach()
        if acc is None:
            y = block_torch.block_mac(x, taps, weight.shape[2:], added, pair, geometry)
        else:
            y = block_torch.block_totals(x, taps, weight.shape[2:], pair, geometry, acc).total
            y = y if added is None else y + added.float().reshape(-1, *[1] * geometry.spatial)
    return y.to(x.dtype)


def totals(
    x: Tensor,
    weight: Tensor,
    first: Format | None,
    second: Format | None,
    geometry: Geometry,
    acc: Accumulator,
) -> Totals:
    """The registers of :func:`emulate` without a bias, and their overflows.

    >>> from dovetail.accumulators import accumulator
    >>> from dovetail.formats import format
    >>> fmt, fp8 = format("mxint8(block=2)"), accumulator("fp8_e4m3")
    >>> totals(torch.tensor([[256.0] * 4]), torch.ones(2, 4), fmt, fmt, LINEAR, fp8)
    Totals(total=tensor([[448., 448.]]), overflows=tensor([[2, 2]]), additions=2)
    """
    pair = fitting(first, second)
    shape = geometry.out_shape(x.shape, weight.shape)
    if 0 in shape or x.numel() == 0 or weight.numel() == 0:
        total = torch.zeros(shape, device=x.device)
        return Totals(total, total.to(torch.int64), 0)
    taps = _taps(weight, pair, geometry, keep=False)
    window = (weight.shape[2:], pair, geometry)
    return block_torch.block_totals(x, taps, *window, acc, counting=True)


def _taps(weight: Tensor, pair: Pair, geometry: Geometry, keep: bool) -> Codes:
    """The weight's codes, kept as long as it is the same."""

    def encode() -> Codes:
        return block_torch.pack(weight, pair, geometry)

    key = ("block codes", pair.second, pair.dot, geometry)
    return cached(weight, key, encode) if keep else encode()


def matmul(
    x: Tensor,
    weight: Tensor,
    first: Format | None,
    second: Format | None,
    acc: Accumulator | None = None,
) -> Tensor:
    """``x [..., M, K] @ weight [..., K, N]`` with broadcast leading dimensions, blocks along K.

    >>> from dovetail.formats import format
    >>> matmul(torch.ones(2, 3), torch.ones(3, 1), format("mxfp4"), format("mxint8"))
    tensor([[3.],
            [3.]])
    """
    formats = (first, second)
    if weight.dim() == 2:
        return emulate(x, weight.mT, None, *formats, LINEAR, acc, keep=False)
    groups = _Groups(x, weight)
    return groups.joined(
        emulate(*groups.operands, None, *formats, groups.geometry, acc, keep=False)
    )


def matmul_totals(
    x: Tensor, weight: Tensor, first: Format | None, second: Format | None, acc: Accumulator
) -> Totals:
    """The registers of :func:`matmul`, and their overflows.

    >>> from dovetail.accumulators import accumulator
    >>> from dovetail.formats import format
    >>> fmt, fp8 = format("mxint8(block=2)"), accumulator("fp8_e4m3")
    >>> x, w = torch.full((2, 1, 4), 256.0), torch.ones(4, 1)
    >>> matmul_totals(x, w, fmt, fmt, fp8).overflows.flatten()
    tensor([2, 2])
    """
    groups = _Groups(x, weight)
    found = totals(*groups.operands, first, second, groups.geometry, acc)
    overflows = None if found.overflows is None else groups.joined(found.overflows)
    return Totals(groups.joined(found.total), overflows, found.additions)


class _Groups:
    """The matrices of a batched matmul as the groups of one linear layer."""

    def __init__(self, x: Tensor, weight: Tensor) -> None:
        self.batch = torch.broadcast_shapes(x.shape[:-2], weight.shape[:-2])
        self.count, (self.rows, inner), columns = prod(self.batch), x.shape[-2:], weight.shape[-1]
        left = x.expand(*self.batch, self.rows, inner).reshape(self.count, self.rows, inner)
        right = weight.mT.expand(*self.batch, columns, inner)
        self.columns = columns
        self.operands = (
            left.movedim(1, 0).reshape(self.rows, self.count * inner),
            # No matrices are one group that sums over nothing, and has no outputs.
            right.reshape(self.count * columns, inner if self.count else 0),
        )
        self.geometry = replace(LINEAR, groups=max(self.count, 1))

    def joined(self, y: Tensor) -> Tensor:
        """``[rows, matrices * columns]`` in the shape of the matmul."""
        apart = y.reshape(self.rows, self.count, self.columns).movedim(1, 0)
        return apart.reshape(*self.batch, self.rows, self.columns)


def _is_native(x: Tensor, weight: Tensor, pair: Pair) -> bool:
    if torch.float64 in (x.dtype, weight.dtype) and pair.cast_already:
        return False  # values that float32 may not have
    return x.device.type == "cpu" and x.dtype != torch.float64 and native_block.holds(pair)


def fitting(first: Format | None, second: Format | None) -> Pair:
    """Both formats, their axis left to the op, or the reason why there is no such product.

    >>> from dovetail.formats import format
    >>> fitting(format("mxint8"), format("mxfp4")).dot
    32
    """
    left, right = (replace(f, axis=None) if isinstance(f, Blocked) else f for f in (first, second))
    reason = why_not(left, right)
    if reason is not None:
        raise DovetailError(f"products of blocks: {reason}; the nearest that works is 'mxint8'")
    assert isinstance(left, Blocked)
    assert isinstance(right, Blocked)
    return pair_of(left, right)
