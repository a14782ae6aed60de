"""``ApproxLinear``."""

from __future__ import annotations

from typing import Any

from torch import Tensor, nn

from dovetail.compat.torchapprox.layers.approx_layer import ApproxLayer

__all__ = ["ApproxLinear"]


class ApproxLinear(ApproxLayer, nn.Linear):
    """``nn.Linear`` on quantised operands; see `ApproxLayer`.

    >>> import torch
    >>> layer = ApproxLinear(8, 4)
    >>> layer(torch.rand(2, 8)).shape, layer.fan_in, layer.opcount
    (torch.Size([2, 4]), 8, 32)
    """

    @classmethod
    def from_linear(cls, linear: nn.Linear) -> ApproxLinear:
        """Another name of ``from_super``."""
        made: ApproxLinear = cls.from_super(linear)
        return made

    @staticmethod
    def _arguments(layer: Any) -> tuple[Any, ...]:
        return layer.in_features, layer.out_features

    @staticmethod
    def _samples(x: Tensor) -> int:
        return x.numel() // max(1, x.shape[-1])
