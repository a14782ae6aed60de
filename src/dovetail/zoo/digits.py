"""A small network for 8x8 digits, with every kind of convolution that hardware meets."""

from __future__ import annotations

import torch
from torch import Tensor, nn
from torch.nn import functional as F

from dovetail.training.fit import fit
from dovetail.zoo import data

__all__ = ["DigitsCNN", "train"]

EPOCHS = 25
LR = 3e-3


class DigitsCNN(nn.Module):
    """``[B, 1, 8, 8]`` pixels in 0..1 to ``[B, 10]`` logits; 17,370 parameters.

    A dense, a strided, a depthwise, a pointwise and a grouped convolution, each followed by batch
    normalisation and ReLU, then the mean over the 4x4 pixels and a linear head.

    >>> DigitsCNN()(torch.zeros(2, 1, 8, 8)).shape
    torch.Size([2, 10])
    """

    def __init__(self) -> None:
        super().__init__()
        self.conv1 = nn.Conv2d(1, 16, 3, padding=1, bias=False)
        self.norm1 = nn.BatchNorm2d(16)
        self.conv2 = nn.Conv2d(16, 32, 3, padding=1, stride=2, bias=False)
        self.norm2 = nn.BatchNorm2d(32)
        self.conv3 = nn.Conv2d(32, 32, 3, padding=1, groups=32, bias=False)
        self.norm3 = nn.BatchNorm2d(32)
        self.conv4 = nn.Conv2d(32, 64, 1, bias=False)
        self.norm4 = nn.BatchNorm2d(64)
        self.conv5 = nn.Conv2d(64, 64, 3, padding=1, groups=4, bias=False)
        self.norm5 = nn.BatchNorm2d(64)
        self.head = nn.Linear(64, 10)

    def forward(self, x: Tensor) -> Tensor:
        x = F.relu(self.norm1(self.conv1(x)))
        x = F.relu(self.norm2(self.conv2(x)))
        x = F.relu(self.norm3(self.conv3(x)))
        x = F.relu(self.norm4(self.conv4(x)))
        x = F.relu(self.norm5(self.conv5(x)))
        logits: Tensor = self.head(x.mean(dim=(2, 3)))
        return logits


def train(*, seed: int = 0, epochs: int = EPOCHS, progress: bool = True) -> DigitsCNN:
    """Train a :class:`DigitsCNN` on ``zoo.data``'s training images; it comes back in eval mode.

    The same seed gives the same weights on the same machine and thread count. Takes seconds.

    >>> model = train(seed=0, epochs=1, progress=False)
    >>> model.training
    False
    """
    with torch.random.fork_rng(devices=[]):
        torch.manual_seed(seed)
        model = DigitsCNN()
    digits = data.load("digits", seed=seed, batch_size=32)
    fit(model, digits.train, epochs=epochs, lr=LR, seed=seed, progress=progress)
    return model.eval()
