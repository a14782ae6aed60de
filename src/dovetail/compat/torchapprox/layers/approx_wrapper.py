"""``ApproxWrapper``: marks a layer for ``prepare_qat``."""

from __future__ import annotations

from typing import Any

from torch import nn

from dovetail.compat.torchapprox.layers.approx_conv2d import ApproxConv2d
from dovetail.compat.torchapprox.layers.approx_layer import ApproxLayer
from dovetail.compat.torchapprox.layers.approx_linear import ApproxLinear
from dovetail.compat.torchapprox.quantizer import qconfig_of
from dovetail.errors import DovetailError

__all__ = ["ApproxWrapper", "layer_mapping_dict"]


class ApproxWrapper(nn.Module):
    """A layer that ``torch.ao.quantization.prepare_qat(model, layer_mapping_dict())`` replaces by
    its approximate one, ``wrapped``. Until then it computes as it did.

    ``qconfig`` is a `QConfig` or torch's.
    """

    def __init__(self, wrapped: nn.Module, qconfig: Any = None) -> None:
        super().__init__()
        if not isinstance(wrapped, tuple(layer_mapping_dict())):
            raise DovetailError(
                f"{type(wrapped).__name__} cannot be wrapped: give an nn.Linear or an nn.Conv2d"
            )
        self.wrapped = wrapped
        self.qconfig = qconfig_of(qconfig)

    def forward(self, *args: Any, **kwargs: Any) -> Any:
        """As the wrapped layer's."""
        return self.wrapped(*args, **kwargs)


def layer_mapping_dict() -> dict[type[nn.Module], type[ApproxLayer]]:
    """Which layer becomes which.

    >>> [layer.__name__ for layer in layer_mapping_dict().values()]
    ['ApproxLinear', 'ApproxConv2d']
    """
    return {nn.Linear: ApproxLinear, nn.Conv2d: ApproxConv2d}
