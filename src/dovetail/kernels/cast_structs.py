"""Number formats in the native core's terms: the structures of ``dovetail_cast.h``."""

from __future__ import annotations

import ctypes
import math
from functools import lru_cache
from typing import Any

import torch
from torch import Tensor

from dovetail.formats.fixed import FixedFormat
from dovetail.formats.floating import FloatFormat
from dovetail.formats.realise import Report
from dovetail.formats.rounding import ROUNDINGS, Rounding

__all__ = [
    "DTYPES",
    "Blocks",
    "Element",
    "Integers",
    "Octaves",
    "Posit",
    "ReportStruct",
    "Scaled",
    "Steps",
    "TensorStruct",
    "element_of",
    "is_dense",
    "mode_of",
    "report_on",
    "sizes_of",
    "tensor_of",
]

DTYPES = {torch.float32: 0, torch.float64: 1, torch.float16: 2, torch.bfloat16: 3}
_MODES = (*ROUNDINGS, "Stochastic")


class ReportStruct(ctypes.Structure):
    """What a cast says beside its result."""

    _fields_ = (
        ("inside", ctypes.c_void_p),
        ("counts", ctypes.c_void_p),
        ("clip", ctypes.c_int32),
        ("low", ctypes.c_double),
        ("high", ctypes.c_double),
    )


class TensorStruct(ctypes.Structure):
    """A tensor and where its cast goes."""

    _fields_ = (
        ("x", ctypes.c_void_p),
        ("out", ctypes.c_void_p),
        *((name, ctypes.c_int64) for name in ("outer", "length", "inner")),
        ("dtype", ctypes.c_int32),
        ("seed", ctypes.c_uint64),
        ("report", ctypes.POINTER(ReportStruct)),
    )


class Element(ctypes.Structure):
    """A floating or fixed-point format."""

    _fields_ = (
        *(
            (name, ctypes.c_int32)
            for name in ("mode", "random_bits", "mantissa", "quantum", "bias", "is_signed")
        ),
        ("negative_zero", ctypes.c_int32),
        ("clamp_negative", ctypes.c_int32),
        *((name, ctypes.c_double * 2) for name in ("max", "over", "infinite")),
        ("flush", ctypes.c_double),
        ("least", ctypes.c_double),
    )


class Integers(ctypes.Structure):
    """Integer codes and how their scale follows from a range."""

    _fields_ = tuple(
        (name, ctypes.c_int32)
        for name in ("mode", "random_bits", "qmin", "qmax", "affine", "is_signed", "po2")
    )


class Posit(ctypes.Structure):
    """A posit format."""

    _fields_ = tuple((name, ctypes.c_int32) for name in ("mode", "width", "es"))


class Octaves(ctypes.Structure):
    """A format that repeats in every octave."""

    _fields_ = (
        *((name, ctypes.c_void_p) for name in ("threshold", "below", "above")),
        *((name, ctypes.c_int32) for name in ("bits", "is_signed")),
        *((name, ctypes.c_float) for name in ("least", "min", "max")),
    )


class Steps(ctypes.Structure):
    """A step function."""

    _fields_ = (
        *((name, ctypes.c_void_p) for name in ("key", "value", "find")),
        *((name, ctypes.c_int32) for name in ("count", "shift", "halvings")),
    )


class Blocks(ctypes.Structure):
    """How blocks share a power of two."""

    _fields_ = (
        ("block", ctypes.c_int64),
        *((name, ctypes.c_int32) for name in ("mode", "emax", "mantissa_bits", "low", "high")),
    )


class Scaled(ctypes.Structure):
    """How blocks share a rounded scale."""

    _fields_ = (
        ("block", ctypes.c_int64),
        ("largest_element", ctypes.c_float),
        ("two_level", ctypes.c_int32),
        ("whole", ctypes.c_float),
    )


def report_on(
    report: Report | None, x: Tensor, bounds: tuple[float, float] = (0.0, 0.0)
) -> ReportStruct | None:
    """A report on the cast of ``x`` for the core to fill; None where none is asked for.

    >>> report = Report()
    >>> report_on(report, torch.zeros(2, 3)).clip, report.inside.shape
    (1, torch.Size([2, 3]))
    """
    if report is None:
        return None
    report.inside = torch.empty_like(x, dtype=torch.bool)
    report.counts = torch.zeros(3, dtype=torch.int64) if report.count else None
    counts = None if report.counts is None else report.counts.data_ptr()
    return ReportStruct(report.inside.data_ptr(), counts, int(report.clip), *bounds)


def is_dense(x: Tensor) -> bool:
    """Whether the elements fill their memory without gaps, in whatever order.

    >>> is_dense(torch.zeros(2, 3).mT), is_dense(torch.zeros(2, 3)[:, ::2])
    (True, False)
    """
    expected = 1
    for stride, size in sorted(zip(x.stride(), x.shape, strict=True)):
        if size != 1 and stride != expected:
            return False
        expected *= size
    return True


def sizes_of(x: Tensor, axis: int | None) -> tuple[int, int, int]:
    """A dense tensor's elements as ``outer``, ``length`` along ``axis`` (None: 1) and ``inner``.

    >>> sizes_of(torch.zeros(2, 3, 5).mT, 1)
    (6, 5, 1)
    """
    length = 1 if axis is None else x.shape[axis]
    inner = x.stride(axis) if axis is not None and length > 1 else 1  # in memory
    return x.numel() // max(length * inner, 1), length, inner


def tensor_of(
    x: Tensor,
    out: Tensor,
    sizes: tuple[int, int, int],
    seed: int = 0,
    report: ReportStruct | None = None,
) -> TensorStruct:
    """A tensor of ``outer``, ``length`` and ``inner`` elements, as it lies in memory.

    >>> x = torch.zeros(2, 3)
    >>> tensor_of(x, x, (1, 1, 6)).inner
    6
    """
    pointer = None if report is None else ctypes.pointer(report)
    return TensorStruct(
        x.data_ptr(), out.data_ptr(), *sizes, DTYPES[x.dtype], seed & (2**64 - 1), pointer
    )


def mode_of(rounding: Rounding) -> tuple[int, int]:
    """The core's number of a rounding mode, and its random bits.

    >>> from dovetail.formats.rounding import NEAREST_EVEN
    >>> mode_of(NEAREST_EVEN)
    (0, 0)
    """
    return _MODES.index(rounding.name), rounding.bits


def _pair(positive: float, negative: float) -> Any:
    return (ctypes.c_double * 2)(positive, negative)


@lru_cache(maxsize=512)
def element_of(fmt: FloatFormat | FixedFormat) -> Element | None:
    """The format in the core's terms, or None if the core does not have it.

    >>> element_of(FloatFormat(4, 3, specials="fn")).quantum
    -9
    """
    if isinstance(fmt, FixedFormat):
        limits = (fmt.max, fmt.min) if fmt.clamp else (math.inf, -math.inf)
        pairs = (_pair(*limits), _pair(*limits), _pair(*limits))
        return Element(*mode_of(fmt.rounding), -1, fmt.quantum, 0, 1, 0, 0, *pairs, 0.0, 0.0)
    first = fmt.quantum + fmt.mantissa
    if first < -1022 or (fmt.signed and not fmt.zero):
        return None
    return Element(
        *mode_of(fmt.rounding),
        fmt.mantissa,
        fmt.quantum,
        fmt.offset,
        int(fmt.signed),
        int(fmt.has_negative_zero),
        int(not fmt.signed and not fmt.magnitude),
        _pair(fmt.max, -fmt.max),
        _pair(_beyond(fmt, False, False), -_beyond(fmt, True, False)),
        _pair(_beyond(fmt, False, True), -_beyond(fmt, True, True)),
        0.0 if fmt.subnormals else 2.0**first,
        0.0 if fmt.zero else fmt.min,
    )


def _beyond(fmt: FloatFormat, negative: bool, infinite: bool) -> float:
    """The magnitude of what lies beyond the largest finite value."""
    if fmt.saturation == "SatFinite" or (fmt.saturation == "SatPropagate" and not infinite):
        return fmt.max
    inward = ("TowardZero", "ToOdd", "TowardPositive" if negative else "TowardNegative")
    if not infinite and fmt.rounding.name in inward:
        return fmt.max
    return math.inf if fmt.has_inf else math.nan if fmt.has_nan else fmt.max
