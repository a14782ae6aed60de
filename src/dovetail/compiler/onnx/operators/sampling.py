"""Images resampled on a grid of places."""

from __future__ import annotations

from collections.abc import Sequence

import torch
import torch.nn.functional as F
from torch import Tensor

from dovetail.compiler.onnx.registry import operator
from dovetail.errors import unknown

_MODES = {
    "linear": "bilinear",
    "bilinear": "bilinear",
    "cubic": "bicubic",
    "bicubic": "bicubic",
    "nearest": "nearest",
}


@operator("GridSample", 16)
def grid_sample(
    x: Tensor,
    grid: Tensor,
    *,
    align_corners: int = 0,
    mode: str = "linear",
    padding_mode: str = "zeros",
) -> Tensor:
    """In two or three dimensions."""
    if mode not in _MODES:
        raise unknown("mode", mode, _MODES)
    return F.grid_sample(x, grid, _MODES[mode], padding_mode, bool(align_corners))


@operator("AffineGrid", 20, static=(1,))
def affine_grid(theta: Tensor, size: Sequence[int], *, align_corners: int = 0) -> Tensor:
    """The places that an affine map gives the pixels."""
    return torch.nn.functional.affine_grid(theta, list(size), bool(align_corners))
