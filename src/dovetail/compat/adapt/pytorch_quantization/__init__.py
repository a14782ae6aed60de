"""What AdaPT's notebooks use of NVIDIA's pytorch-quantization."""

from dovetail.compat.adapt.pytorch_quantization import calib, nn

__all__ = ["calib", "nn"]
