"""U-Net for segmentation (Ronneberger, Fischer and Brox, 2015), without trained weights.

As commonly used today: convolutions keep the size, each is followed by batch normalisation, and the
widths are a quarter of the paper's.
"""

from __future__ import annotations

from collections.abc import Sequence
from itertools import pairwise

import torch
from torch import Tensor, nn
from torch.nn import functional as F

__all__ = ["UNet"]


def _double(inputs: int, outputs: int) -> nn.Sequential:
    parts: list[nn.Module] = []
    for width in (inputs, outputs):
        conv = nn.Conv2d(width, outputs, 3, padding=1, bias=False)
        parts += [conv, nn.BatchNorm2d(outputs), nn.ReLU(inplace=True)]
    return nn.Sequential(*parts)


class UNet(nn.Module):
    """``[B, channels, H, W]`` images to ``[B, classes, H, W]`` logits of each pixel.

    ``H`` and ``W`` are multiples of ``2 ** (len(widths) - 1)``. On the way down maximum pooling, on
    the way up transposed convolutions, each joined with what was there on the way down.

    >>> UNet(channels=1, classes=3, widths=(4, 8))(torch.zeros(2, 1, 8, 6)).shape
    torch.Size([2, 3, 8, 6])
    """

    def __init__(
        self, channels: int = 3, classes: int = 2, widths: Sequence[int] = (16, 32, 64, 128, 256)
    ) -> None:
        super().__init__()
        pairs = list(pairwise(widths))
        self.down = nn.ModuleList(
            _double(a, b) for a, b in zip((channels, *widths), widths, strict=False)
        )
        self.up = nn.ModuleList(nn.ConvTranspose2d(b, a, 2, stride=2) for a, b in reversed(pairs))
        self.join = nn.ModuleList(_double(2 * a, a) for a, _ in reversed(pairs))
        self.head = nn.Conv2d(widths[0], classes, 1)

    def forward(self, x: Tensor) -> Tensor:
        kept: list[Tensor] = []
        for level, block in enumerate(self.down):
            x = block(F.max_pool2d(x, 2) if level else x)
            kept.append(x)
        for up, join in zip(self.up, self.join, strict=True):
            kept.pop()
            x = join(torch.cat([kept[-1], up(x)], 1))
        logits: Tensor = self.head(x)
        return logits
