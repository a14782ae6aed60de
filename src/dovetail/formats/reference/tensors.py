"""The definition of ``dv.cast``: a tensor, one value or one block after another."""

from __future__ import annotations

import numpy as np
import torch
from torch import Tensor

from dovetail.formats.base import BlockFormat, ElementFormat, Format, Same
from dovetail.formats.reference.blocks import round_block, tensor_scale
from dovetail.formats.reference.elements import round_value
from dovetail.formats.reference.philox import philox
from dovetail.formats.scaled import NVFP4

__all__ = ["round_values"]


def round_values(
    x: Tensor, fmt: Format, axis: int = -1, seed: int = 0, scale: float | None = None
) -> Tensor:
    """A tensor, rounded value by value (slow): the definition of ``dv.cast``.

    ``scale`` is NVFP4's tensor scale (a float32 number), if it is given.

    >>> from dovetail.formats import format
    >>> round_values(torch.tensor([1.0, 0.5, 7.0, -5.0]), format("mxfp4(block=4)"))
    tensor([ 1.0000,  0.5000,  6.0000, -4.0000])
    """
    if isinstance(fmt, Same) or x.numel() == 0:
        return x.clone()
    words = philox(x.numel(), seed)
    values = x.detach().double()
    if isinstance(fmt, ElementFormat):
        flat = [
            round_value(v, fmt, r) for v, r in zip(values.flatten().tolist(), words, strict=True)
        ]
        return torch.tensor(flat, dtype=torch.float64).to(_wide(x)).to(x.dtype).view(x.shape)
    assert isinstance(fmt, BlockFormat)
    axis = axis if fmt.axis is None else fmt.axis
    moved = values.movedim(axis, -1)
    noise = torch.tensor(words, dtype=torch.int64).view(x.shape).movedim(axis, -1)
    length = moved.shape[-1]
    runs = [slice(i, i + fmt.block) for i in range(0, length, fmt.block)]
    lists = (t.reshape(-1, length).tolist() for t in (moved, noise))
    rows = list(zip(*lists, strict=True))
    g = 1.0 if scale is None else scale
    if isinstance(fmt, NVFP4) and scale is None:
        g = tensor_scale([row[run] for row, _ in rows for run in runs])
    wide = np.float64 if x.dtype == torch.float64 else np.float32
    out = [
        [v for run in runs for v in round_block(row[run], fmt, noise_row[run], wide, g)]
        for row, noise_row in rows
    ]
    top = torch.finfo(x.dtype).max
    y = torch.tensor(out, dtype=torch.float64).view(moved.shape).movedim(-1, axis)
    return y.clamp(-top, top).to(_wide(x)).to(x.dtype)


def _wide(x: Tensor) -> torch.dtype:
    return torch.float64 if x.dtype == torch.float64 else torch.float32
