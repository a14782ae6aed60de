"""``ApproxConv2d``."""

from __future__ import annotations

from typing import Any

from torch import nn

from dovetail.compat.torchapprox.layers.approx_layer import ApproxLayer

__all__ = ["ApproxConv2d"]


class ApproxConv2d(ApproxLayer, nn.Conv2d):
    """``nn.Conv2d`` on quantised operands, with any padding, dilation and groups; see
    `ApproxLayer`.

    >>> import torch
    >>> layer = ApproxConv2d(4, 8, 3, padding="same", groups=2)
    >>> layer(torch.rand(2, 4, 5, 5)).shape, layer.fan_in, layer.opcount
    (torch.Size([2, 8, 5, 5]), 18, 3600)
    """

    @classmethod
    def from_conv2d(cls, conv2d: nn.Conv2d) -> ApproxConv2d:
        """Another name of ``from_super``."""
        made: ApproxConv2d = cls.from_super(conv2d)
        return made

    @classmethod
    def from_super(cls, layer: Any, qconfig: Any = None) -> Any:
        """This layer with the parameters of a torch layer, which they go on sharing."""
        made = super().from_super(layer, qconfig)
        made.padding_mode = layer.padding_mode
        made._reversed_padding_repeated_twice = layer._reversed_padding_repeated_twice
        return made

    @staticmethod
    def _arguments(layer: Any) -> tuple[Any, ...]:
        sizes = layer.in_channels, layer.out_channels, layer.kernel_size
        return *sizes, layer.stride, layer.padding, layer.dilation, layer.groups
