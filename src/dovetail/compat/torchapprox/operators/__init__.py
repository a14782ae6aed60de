"""The operators of TorchApprox's layers."""

from dovetail.compat.torchapprox.operators import htp_models
from dovetail.compat.torchapprox.operators.lut import LUT, LUTGeMM

__all__ = ["LUT", "LUTGeMM", "htp_models"]
