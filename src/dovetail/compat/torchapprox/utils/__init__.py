"""Conversion of networks, and the circuits of EvoApproxLib."""

from dovetail.compat.torchapprox.utils import conversion, evoapprox
from dovetail.compat.torchapprox.utils.conversion import (
    get_approx_modules,
    inplace_conversion,
    wrap_quantizable,
)

__all__ = [
    "conversion",
    "evoapprox",
    "get_approx_modules",
    "inplace_conversion",
    "wrap_quantizable",
]
