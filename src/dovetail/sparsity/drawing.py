"""A mask as a picture: in braille dots on a terminal, or as a PNG."""

from __future__ import annotations

import math
from pathlib import Path

import numpy as np
import numpy.typing as npt
from torch import Tensor

from dovetail._png import png
from dovetail.errors import DovetailError

__all__ = ["draw", "save_png"]

#: The bit of each of a braille cell's four rows and two columns.
_DOTS = np.array([[0x01, 0x08], [0x02, 0x10], [0x04, 0x20], [0x40, 0x80]])
Shares = npt.NDArray[np.float64]


def draw(mask: Tensor, width: int = 80, height: int = 40) -> str:
    """A mask in at most ``height`` lines of at most ``width`` braille characters.

    A character is four rows by two columns of the matrix (outputs down; all other axes, in their
    order, to the right); a dot is a weight that is kept. Where there are more weights than dots, a
    dot stands for a rectangle of which at least half is kept.

    >>> import torch
    >>> print(draw(torch.eye(4, 6) == 1))
    ⠑⢄⠀
    """
    shares = _pooled(_matrix(mask), height * 4, width * 2)
    rows, columns = (math.ceil(n / k) for n, k in zip(shares.shape, (4, 2), strict=True))
    dots = np.zeros((rows * 4, columns * 2), bool)
    dots[: shares.shape[0], : shares.shape[1]] = shares >= 0.5
    cells = dots.reshape(rows, 4, columns, 2).transpose(0, 2, 1, 3)
    codes = 0x2800 + (cells * _DOTS).sum((2, 3))
    return "\n".join("".join(map(chr, line)) for line in codes.tolist())


def save_png(mask: Tensor, path: str | Path, side: int = 1024) -> None:
    """Write a mask as a picture of at most ``side`` pixels a side: white is kept, black is pruned,
    grey a share of the weights that a pixel stands for."""
    shares = _pooled(_matrix(mask), side, side)
    Path(path).write_bytes(png(np.round(shares * 255).astype(np.uint8)))


def _matrix(mask: Tensor) -> Shares:
    if mask.numel() == 0:
        raise DovetailError(f"a mask {tuple(mask.shape)} has nothing to draw")
    rows = mask.shape[0] if mask.dim() > 1 else 1
    matrix: Shares = mask.detach().cpu().reshape(rows, -1).double().numpy()
    return matrix


def _pooled(matrix: Shares, rows: int, columns: int) -> Shares:
    """The means over rectangles of equal size, so that at most ``rows x columns`` are left."""
    for axis, most in enumerate((rows, columns)):
        size = math.ceil(matrix.shape[axis] / most)
        starts = np.arange(0, matrix.shape[axis], size)
        counts = np.diff(np.append(starts, matrix.shape[axis]))
        sums = np.add.reduceat(matrix, starts, axis=axis)
        matrix = sums / (counts[:, None] if axis == 0 else counts)
    return matrix
