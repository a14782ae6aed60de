"""AdaPT's layers."""

from dovetail.compat.adapt.approx_layers import axx_layers

__all__ = ["axx_layers"]
