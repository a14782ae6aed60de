"""Formats that have names of their own, and what they are."""

from __future__ import annotations

from dovetail.formats.fixed import FixedFormat
from dovetail.formats.floating import FloatFormat

__all__ = ["FLOATS", "MX"]

#: Floating-point formats with names of their own.
FLOATS = {
    "fp4_e2m1fn": FloatFormat(2, 1, specials="finite"),
    "fp6_e2m3fn": FloatFormat(2, 3, specials="finite"),
    "fp6_e3m2fn": FloatFormat(3, 2, specials="finite"),
    "fp8_e3m4": FloatFormat(3, 4),
    "fp8_e4m3fn": FloatFormat(4, 3, specials="fn"),
    "fp8_e5m2": FloatFormat(5, 2),
    "fp8_e4m3fnuz": FloatFormat(4, 3, bias=8, specials="fnuz"),
    "fp8_e5m2fnuz": FloatFormat(5, 2, bias=16, specials="fnuz"),
    "fp8_e4m3b11fnuz": FloatFormat(4, 3, bias=11, specials="fnuz"),
    "e8m0fnu": FloatFormat(8, 0, signed=False, specials="fn", zero=False),
    "fp16": FloatFormat(5, 10, saturation="SatNone"),
    "bf16": FloatFormat(8, 7, saturation="SatNone"),
    "tf32": FloatFormat(8, 10, saturation="SatNone"),
    "fp32": FloatFormat(8, 23, saturation="SatNone"),
}

#: The elements of the named OCP MX formats.
MX: dict[str, FloatFormat | FixedFormat] = {
    "mxfp8_e4m3": FLOATS["fp8_e4m3fn"],
    "mxfp8_e5m2": FLOATS["fp8_e5m2"],
    "mxfp6_e3m2": FLOATS["fp6_e3m2fn"],
    "mxfp6_e2m3": FLOATS["fp6_e2m3fn"],
    "mxfp4": FLOATS["fp4_e2m1fn"],
    "mxint8": FixedFormat(8, 6, symmetric=True),
    "mxint6": FixedFormat(6, 4, symmetric=True),
    "mxint4": FixedFormat(4, 2, symmetric=True),
}
