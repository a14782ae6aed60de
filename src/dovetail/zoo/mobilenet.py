"""MobileNetV2 for images (Sandler, Howard and others, 2018), without trained weights.

Parameters are named so that published checkpoints of the common form load.
"""

from __future__ import annotations

from torch import Tensor, nn
from torch.nn import functional as F

__all__ = ["InvertedResidual", "MobileNetV2", "mobilenet_v2"]

#: Of each group of blocks: expansion, output channels, how many, the first one's stride.
_GROUPS = (
    (1, 16, 1, 1),
    (6, 24, 2, 2),
    (6, 32, 3, 2),
    (6, 64, 4, 2),
    (6, 96, 3, 1),
    (6, 160, 3, 2),
    (6, 320, 1, 1),
)


def _layer(inputs: int, outputs: int, size: int, stride: int = 1, groups: int = 1) -> nn.Sequential:
    conv = nn.Conv2d(inputs, outputs, size, stride, size // 2, groups=groups, bias=False)
    return nn.Sequential(conv, nn.BatchNorm2d(outputs), nn.ReLU6(inplace=True))


class InvertedResidual(nn.Module):
    """Wide inside, narrow outside: 1x1 up, depthwise 3x3, 1x1 down without an activation.

    >>> import torch
    >>> InvertedResidual(8, 8, stride=1, expansion=6)(torch.zeros(1, 8, 5, 5)).shape
    torch.Size([1, 8, 5, 5])
    """

    def __init__(self, inputs: int, outputs: int, stride: int, expansion: int) -> None:
        super().__init__()
        width = inputs * expansion
        self.adds = stride == 1 and inputs == outputs
        self.conv = nn.Sequential(
            *([_layer(inputs, width, 1)] if expansion > 1 else []),
            _layer(width, width, 3, stride, groups=width),
            nn.Conv2d(width, outputs, 1, bias=False),
            nn.BatchNorm2d(outputs),
        )

    def forward(self, x: Tensor) -> Tensor:
        y: Tensor = self.conv(x)
        return x + y if self.adds else y


class MobileNetV2(nn.Module):
    """``[B, 3, H, W]`` images to ``[B, classes]`` logits; ``width`` scales every channel count.

    >>> import torch
    >>> MobileNetV2(classes=10, width=0.25).eval()(torch.zeros(2, 3, 32, 32)).shape
    torch.Size([2, 10])
    """

    def __init__(self, classes: int = 1000, width: float = 1.0) -> None:
        super().__init__()
        channels = _rounded(32 * width)
        features: list[nn.Module] = [_layer(3, channels, 3, 2)]
        for expansion, outputs, count, stride in _GROUPS:
            for place in range(count):
                step = stride if place == 0 else 1
                features.append(
                    InvertedResidual(channels, _rounded(outputs * width), step, expansion)
                )
                channels = _rounded(outputs * width)
        last = _rounded(1280 * max(1.0, width))
        self.features = nn.Sequential(*features, _layer(channels, last, 1))
        self.classifier = nn.Sequential(nn.Dropout(0.2), nn.Linear(last, classes))
        for module in self.modules():
            if isinstance(module, nn.Conv2d):
                nn.init.kaiming_normal_(module.weight, mode="fan_out")

    def forward(self, x: Tensor) -> Tensor:
        x = F.adaptive_avg_pool2d(self.features(x), 1).flatten(1)
        logits: Tensor = self.classifier(x)
        return logits


def _rounded(channels: float) -> int:
    """To a multiple of 8, by no more than a tenth down."""
    near = max(8, int(channels + 4) // 8 * 8)
    return near + 8 if near < 0.9 * channels else near


def mobilenet_v2() -> MobileNetV2:
    """3,504,872 parameters.

    >>> sum(p.numel() for p in mobilenet_v2().parameters())
    3504872
    """
    return MobileNetV2()
