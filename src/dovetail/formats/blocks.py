"""A tensor seen in blocks: runs of neighbours along one axis that share a scale."""

from __future__ import annotations

from typing import NamedTuple

import torch
import torch.nn.functional as F
from torch import Tensor

from dovetail.errors import DovetailError
from dovetail.formats.base import BlockFormat, Format
from dovetail.formats.bits import Layout

__all__ = ["Blocks", "blocks_of", "format_blocks"]


class Blocks(NamedTuple):
    """A tensor with its ``axis`` split in blocks: shape ``[..., blocks, block, ...]``."""

    axis: int
    length: int
    block: int
    padding: int

    def split(self, x: Tensor) -> Tensor:
        if self.padding:
            behind = [0, 0] * (x.dim() - 1 - self.axis)
            x = F.pad(x, [*behind, 0, self.padding])
        blocks: Tensor = torch.unflatten(x, self.axis, (-1, self.block))
        return blocks

    def join(self, y: Tensor) -> Tensor:
        y = torch.flatten(y, self.axis, self.axis + 1)
        return y.narrow(self.axis, 0, self.length) if self.padding else y

    def largest(self, split: Tensor, layout: Layout) -> Tensor:
        """The largest magnitude of each block (NaN above infinity), kept as an axis of length 1."""
        pattern = split.view(layout.integer) & layout.magnitude
        return pattern.amax(self.axis + 1, keepdim=True).view(layout.dtype)


def blocks_of(x: Tensor, size: int, axis: int, fmt: Format) -> Blocks:
    """Runs of ``size`` along ``axis``, the last one shorter if need be; ``fmt`` is for the error.

    >>> from dovetail.formats import format
    >>> blocks = blocks_of(torch.arange(5.0), 2, 0, format("mxfp4(block=2)"))
    >>> blocks.split(torch.arange(5.0)).shape, blocks.join(torch.zeros(3, 2)).shape
    (torch.Size([3, 2]), torch.Size([5]))
    """
    if not -x.dim() <= axis < x.dim():
        raise DovetailError(
            f"axis={axis} of '{fmt}' is not an axis of a tensor with {x.dim()} dimensions"
        )
    axis = axis % x.dim()
    length = x.shape[axis]
    block = min(size, max(length, 1))
    return Blocks(axis, length, block, -length % block)


def format_blocks(x: Tensor, fmt: BlockFormat, axis: int) -> Blocks:
    """The blocks of ``fmt`` along its own axis, or along ``axis`` if it has none.

    >>> from dovetail.formats import format
    >>> format_blocks(torch.zeros(4, 6), format("mxfp4(block=2, axis=0)"), 1).axis
    0
    """
    return blocks_of(x, fmt.block, axis if fmt.axis is None else fmt.axis, fmt)
