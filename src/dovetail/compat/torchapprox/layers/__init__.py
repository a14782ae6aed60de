"""TorchApprox's layers."""

from dovetail.compat.torchapprox.layers.approx_conv2d import ApproxConv2d
from dovetail.compat.torchapprox.layers.approx_layer import (
    ApproxLayer,
    InferenceMode,
    TracedGeMMInputs,
)
from dovetail.compat.torchapprox.layers.approx_linear import ApproxLinear
from dovetail.compat.torchapprox.layers.approx_wrapper import ApproxWrapper, layer_mapping_dict

__all__ = [
    "ApproxConv2d",
    "ApproxLayer",
    "ApproxLinear",
    "ApproxWrapper",
    "InferenceMode",
    "TracedGeMMInputs",
    "layer_mapping_dict",
]
