"""Residual networks for images (He, Zhang, Ren and Sun, 2015), without trained weights.

As commonly implemented, the bottleneck's stride is in its 3x3 convolution; parameters are named so
that published checkpoints of that form load.
"""

from __future__ import annotations

from collections.abc import Sequence

from torch import Tensor, nn
from torch.nn import functional as F

__all__ = ["BasicBlock", "Bottleneck", "ResNet", "resnet18", "resnet50"]


def _conv(inputs: int, outputs: int, size: int, stride: int = 1) -> nn.Conv2d:
    return nn.Conv2d(inputs, outputs, size, stride=stride, padding=size // 2, bias=False)


def _shortcut(inputs: int, outputs: int, stride: int) -> nn.Sequential | None:
    """What brings the input to the output's shape, where they differ."""
    if stride == 1 and inputs == outputs:
        return None
    return nn.Sequential(_conv(inputs, outputs, 1, stride), nn.BatchNorm2d(outputs))


class BasicBlock(nn.Module):
    """Two 3x3 convolutions beside a shortcut.

    >>> import torch
    >>> BasicBlock(8, 16, stride=2)(torch.zeros(1, 8, 6, 6)).shape
    torch.Size([1, 16, 3, 3])
    """

    expansion = 1

    def __init__(self, inputs: int, width: int, stride: int = 1) -> None:
        super().__init__()
        self.conv1, self.bn1 = _conv(inputs, width, 3, stride), nn.BatchNorm2d(width)
        self.conv2, self.bn2 = _conv(width, width, 3), nn.BatchNorm2d(width)
        self.downsample = _shortcut(inputs, width, stride)

    def forward(self, x: Tensor) -> Tensor:
        y = F.relu(self.bn1(self.conv1(x)))
        y = self.bn2(self.conv2(y))
        return F.relu(y + (x if self.downsample is None else self.downsample(x)))


class Bottleneck(nn.Module):
    """A 3x3 convolution of few channels between two 1x1 ones, beside a shortcut.

    >>> import torch
    >>> Bottleneck(8, 4, stride=2)(torch.zeros(1, 8, 6, 6)).shape
    torch.Size([1, 16, 3, 3])
    """

    expansion = 4

    def __init__(self, inputs: int, width: int, stride: int = 1) -> None:
        super().__init__()
        outputs = self.expansion * width
        self.conv1, self.bn1 = _conv(inputs, width, 1), nn.BatchNorm2d(width)
        self.conv2, self.bn2 = _conv(width, width, 3, stride), nn.BatchNorm2d(width)
        self.conv3, self.bn3 = _conv(width, outputs, 1), nn.BatchNorm2d(outputs)
        self.downsample = _shortcut(inputs, outputs, stride)

    def forward(self, x: Tensor) -> Tensor:
        y = F.relu(self.bn1(self.conv1(x)))
        y = F.relu(self.bn2(self.conv2(y)))
        y = self.bn3(self.conv3(y))
        return F.relu(y + (x if self.downsample is None else self.downsample(x)))


def _stage(
    block: type[BasicBlock] | type[Bottleneck], inputs: int, width: int, depth: int, stride: int
) -> nn.Sequential:
    outputs = width * block.expansion
    first = block(inputs, width, stride)
    return nn.Sequential(first, *(block(outputs, width) for _ in range(depth - 1)))


class ResNet(nn.Module):
    """``[B, 3, H, W]`` images to ``[B, classes]`` logits; ``depths`` blocks in each of four stages.

    >>> import torch
    >>> ResNet(BasicBlock, (1, 1, 1, 1), classes=10)(torch.zeros(2, 3, 64, 64)).shape
    torch.Size([2, 10])
    """

    def __init__(
        self,
        block: type[BasicBlock] | type[Bottleneck],
        depths: Sequence[int],
        classes: int = 1000,
    ) -> None:
        super().__init__()
        self.conv1, self.bn1 = nn.Conv2d(3, 64, 7, 2, 3, bias=False), nn.BatchNorm2d(64)
        widths = [64 << stage for stage in range(4)]
        inputs = [64, *(width * block.expansion for width in widths)]
        self.layer1 = _stage(block, inputs[0], widths[0], depths[0], 1)
        self.layer2 = _stage(block, inputs[1], widths[1], depths[1], 2)
        self.layer3 = _stage(block, inputs[2], widths[2], depths[2], 2)
        self.layer4 = _stage(block, inputs[3], widths[3], depths[3], 2)
        self.fc = nn.Linear(inputs[4], classes)
        for module in self.modules():
            if isinstance(module, nn.Conv2d):
                nn.init.kaiming_normal_(module.weight, mode="fan_out", nonlinearity="relu")

    def forward(self, x: Tensor) -> Tensor:
        x = F.max_pool2d(F.relu(self.bn1(self.conv1(x))), 3, stride=2, padding=1)
        x = self.layer4(self.layer3(self.layer2(self.layer1(x))))
        logits: Tensor = self.fc(x.mean(dim=(2, 3)))
        return logits


def resnet18() -> ResNet:
    """Eighteen layers of weights: 11,689,512 parameters.

    >>> sum(p.numel() for p in resnet18().parameters())
    11689512
    """
    return ResNet(BasicBlock, (2, 2, 2, 2))


def resnet50() -> ResNet:
    """Fifty layers of weights: 25,557,032 parameters.

    >>> len([m for m in resnet50().modules() if isinstance(m, (nn.Conv2d, nn.Linear))])
    54
    """
    return ResNet(Bottleneck, (3, 4, 6, 3))
