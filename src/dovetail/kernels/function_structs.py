"""Approximated functions in the native core's terms: the structures of ``dovetail_function.h``."""

from __future__ import annotations

import ctypes
from functools import lru_cache

from dovetail.formats import Format
from dovetail.formats import format as to_format
from dovetail.formats.fixed import FixedFormat
from dovetail.formats.floating import FloatFormat
from dovetail.formats.rounding import NEAREST_EVEN
from dovetail.kernels.cast_structs import element_of

__all__ = ["KINDS", "NormStruct", "Rounding", "SoftmaxStruct", "UnitStruct", "rounding_of"]

_KEPT, _SINGLE, _FLOATING, _STEPPED = range(4)

#: Kinds of unit, in the order of ``dv_unit_kind``.
KINDS = (
    "direct",
    "gate",
    "exponential",
    "mantissa",
    "turn",
    "newton",
    "integer_root",
    "integer_gelu",
    "integer_exp",
    "root",
)


class Rounding(ctypes.Structure):
    """What an intermediate result is rounded to."""

    _fields_ = (
        *((name, ctypes.c_int32) for name in ("kind", "mantissa")),
        *((name, ctypes.c_double) for name in ("least", "low", "high", "over", "infinite")),
    )


class UnitStruct(ctypes.Structure):
    """How a function of one variable is computed."""

    _fields_ = (
        *((name, ctypes.c_int32) for name in ("kind", "order", "steps", "count", "degree")),
        ("pitch", ctypes.c_int64),
        ("rows", ctypes.c_void_p),
        *((name, ctypes.c_double) for name in ("first", "steepness")),
        *((name, ctypes.c_double) for name in ("low", "high", "left", "right")),
        ("magic", ctypes.c_double * 5),
        ("rounding", Rounding),
    )


class SoftmaxStruct(ctypes.Structure):
    """How rows of scores become weights."""

    _fields_ = (
        *((name, UnitStruct) for name in ("exp", "reciprocal")),
        *((name, ctypes.c_int32) for name in ("divides", "keeps")),
        *((name, ctypes.c_double) for name in ("clamp", "hidden")),
        *((name, Rounding) for name in ("rounding", "sums")),
    )


class NormStruct(ctypes.Structure):
    """How rows are normalised."""

    _fields_ = (
        ("rsqrt", UnitStruct),
        *((name, ctypes.c_int32) for name in ("centred", "moments")),
        *((name, ctypes.c_double) for name in ("scale", "eps")),
        *((name, ctypes.c_void_p) for name in ("weight", "bias")),
        *((name, Rounding) for name in ("rounding", "sums")),
    )


_FP32 = to_format("fp32")


@lru_cache(maxsize=256)
def rounding_of(fmt: Format | None) -> Rounding | None:
    """A format of intermediate results in the core's terms, or None if the core does not have it:
    it rounds to nearest even, to floating-point formats with signs and subnormal numbers, and to
    fixed-point formats that clamp.

    >>> from dovetail.formats import format
    >>> rounding_of(format("fp16")).least == 2.0**-14, rounding_of(format("posit(8, 1)")) is None
    (True, True)
    """
    if fmt is None:
        return Rounding(_KEPT)
    if isinstance(fmt, FixedFormat):
        fits = fmt.rounding == NEAREST_EVEN and fmt.clamp and fmt.bits < 50
        return Rounding(_STEPPED, 0, 2.0**fmt.quantum, fmt.min, fmt.max) if fits else None
    if not isinstance(fmt, FloatFormat) or (element := element_of(fmt)) is None:
        return None
    least = 2.0 ** (fmt.quantum + fmt.mantissa)
    has_all = fmt.signed and fmt.has_negative_zero and fmt.subnormals and fmt.zero
    if not has_all or fmt.rounding != NEAREST_EVEN or fmt.mantissa < 1 or not fmt.max < 2.0**900:
        return None
    kind = _SINGLE if fmt == _FP32 else _FLOATING
    beyond = (element.over[0], element.infinite[0])
    return Rounding(kind, fmt.mantissa, least, -fmt.max, fmt.max, *beyond)
