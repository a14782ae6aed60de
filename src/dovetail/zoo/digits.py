"""A small network for 8x8 digits, with every kind of convolution that hardware meets."""

from __future__ import annotations

import torch
from torch import Tensor, nn
from torch.nn import functional as F
from torch.nn.utils.fusion import fuse_conv_bn_eval

from dovetail.training.fit import fit
from dovetail.zoo import data

__all__ = ["DigitsCNN", "train"]

EPOCHS = 25
LR = 3e-3


class DigitsCNN(nn.Module):
    """``[B, 1, 8, 8]`` pixels in 0..1 to ``[B, 10]`` logits; 17,162 parameters.

    A dense, a strided, a depthwise, a pointwise and a grouped convolution, each with its bias and
    ReLU, then the mean over the 4x4 pixels and a linear head. It is trained with batch
    normalisation, which is then folded into the convolutions, as for an accelerator.

    >>> DigitsCNN()(torch.zeros(2, 1, 8, 8)).shape
    torch.Size([2, 10])
    """

    def __init__(self) -> None:
        super().__init__()
        self.conv1 = nn.Conv2d(1, 16, 3, padding=1)
        self.conv2 = nn.Conv2d(16, 32, 3, padding=1, stride=2)
        self.conv3 = nn.Conv2d(32, 32, 3, padding=1, groups=32)
        self.conv4 = nn.Conv2d(32, 64, 1)
        self.conv5 = nn.Conv2d(64, 64, 3, padding=1, groups=4)
        self.head = nn.Linear(64, 10)

    def forward(self, x: Tensor) -> Tensor:
        for conv in (self.conv1, self.conv2, self.conv3, self.conv4, self.conv5):
            x = F.relu(conv(x))
        logits: Tensor = self.head(x.mean(dim=(2, 3)))
        return logits


def normalised(model: DigitsCNN) -> DigitsCNN:
    """``model``, changed in place: batch normalisation after each convolution, for training.

    >>> [type(part).__name__ for part in normalised(DigitsCNN()).conv1]
    ['Conv2d', 'BatchNorm2d']
    """
    for name, conv in list(model.named_children()):
        if isinstance(conv, nn.Conv2d):
            setattr(model, name, nn.Sequential(conv, nn.BatchNorm2d(conv.out_channels)))
    return model


def folded(model: DigitsCNN) -> DigitsCNN:
    """What `normalised` made, changed in place to plain convolutions with the same outputs.

    It must be in eval mode: the running mean and variance go into weights and biases.

    >>> folded(normalised(DigitsCNN()).eval()).conv1
    Conv2d(1, 16, kernel_size=(3, 3), stride=(1, 1), padding=(1, 1))
    """
    for name, pair in list(model.named_children()):
        if isinstance(pair, nn.Sequential):
            conv, norm = pair[0], pair[1]
            assert isinstance(conv, nn.Conv2d)
            assert isinstance(norm, nn.BatchNorm2d)
            setattr(model, name, fuse_conv_bn_eval(conv, norm))
    return model


def train(*, seed: int = 0, epochs: int = EPOCHS, progress: bool = True) -> DigitsCNN:
    """Train a :class:`DigitsCNN` on ``zoo.data``'s training images; it comes back in eval mode.

    The same seed gives the same weights on the same machine and thread count. Takes seconds.

    >>> model = train(seed=0, epochs=1, progress=False)
    >>> model.training
    False
    """
    with torch.random.fork_rng(devices=[]):
        torch.manual_seed(seed)
        model = normalised(DigitsCNN())
    digits = data.load("digits", seed=seed, batch_size=32)
    fit(model, digits.train, epochs=epochs, lr=LR, seed=seed, progress=progress)
    return folded(model.eval())
