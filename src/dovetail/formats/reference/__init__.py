"""What a cast means: exact arithmetic on Python numbers, one value after another.

Everything faster is tested equal to this, bit for bit.
"""

from dovetail.formats.reference.blocks import block_parts, shared_exponent, tensor_scale
from dovetail.formats.reference.elements import round_value
from dovetail.formats.reference.philox import philox
from dovetail.formats.reference.tensors import round_values

__all__ = [
    "block_parts",
    "philox",
    "round_value",
    "round_values",
    "shared_exponent",
    "tensor_scale",
]
