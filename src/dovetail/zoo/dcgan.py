"""DCGAN (Radford, Metz and Chintala, 2015): images from noise, and what tells them from real ones.

Without trained weights; 64 x 64 pixels, as in the paper.
"""

from __future__ import annotations

from itertools import pairwise

from torch import Tensor, nn

__all__ = ["Discriminator", "Generator"]


class Generator(nn.Module):
    """``[B, noise]`` to ``[B, channels, 64, 64]`` pixels in -1..1, by transposed convolutions.

    >>> import torch
    >>> Generator(noise=8, width=4)(torch.zeros(2, 8)).shape
    torch.Size([2, 3, 64, 64])
    """

    def __init__(self, noise: int = 100, width: int = 64, channels: int = 3) -> None:
        super().__init__()
        widths = [noise, 8 * width, 4 * width, 2 * width, width]
        layers: list[nn.Module] = []
        for place, (a, b) in enumerate(pairwise(widths)):
            window = (4, 1, 0) if place == 0 else (4, 2, 1)
            layers += [nn.ConvTranspose2d(a, b, *window, bias=False), nn.BatchNorm2d(b)]
            layers.append(nn.ReLU(inplace=True))
        last = nn.ConvTranspose2d(width, channels, 4, 2, 1, bias=False)
        self.main = nn.Sequential(*layers, last, nn.Tanh())
        _draw(self)

    def forward(self, z: Tensor) -> Tensor:
        image: Tensor = self.main(z[:, :, None, None])
        return image


class Discriminator(nn.Module):
    """``[B, channels, 64, 64]`` pixels to ``[B]`` logits: above 0 means real.

    >>> import torch
    >>> Discriminator(width=4)(torch.zeros(2, 3, 64, 64)).shape
    torch.Size([2])
    """

    def __init__(self, width: int = 64, channels: int = 3) -> None:
        super().__init__()
        layers: list[nn.Module] = [nn.Conv2d(channels, width, 4, 2, 1, bias=False)]
        layers.append(nn.LeakyReLU(0.2, inplace=True))
        for place in range(3):
            a = width << place
            layers += [nn.Conv2d(a, 2 * a, 4, 2, 1, bias=False), nn.BatchNorm2d(2 * a)]
            layers.append(nn.LeakyReLU(0.2, inplace=True))
        self.main = nn.Sequential(*layers, nn.Conv2d(8 * width, 1, 4, bias=False))
        _draw(self)

    def forward(self, x: Tensor) -> Tensor:
        logits: Tensor = self.main(x)
        return logits.flatten()


def _draw(model: nn.Module) -> None:
    """Weights as the paper draws them."""
    for module in model.modules():
        if isinstance(module, (nn.Conv2d, nn.ConvTranspose2d)):
            nn.init.normal_(module.weight, 0.0, 0.02)
        elif isinstance(module, nn.BatchNorm2d):
            nn.init.normal_(module.weight, 1.0, 0.02)
