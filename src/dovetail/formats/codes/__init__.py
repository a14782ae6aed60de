"""Tensors in a format's own bits: packed codes and scales, and back."""

from dovetail.formats.codes.decode import decode
from dovetail.formats.codes.encode import encode
from dovetail.formats.codes.value import Codes

__all__ = ["Codes", "decode", "encode"]
