"""The native core's casts: every number format of :mod:`dovetail.formats`, at the speed of memory.

Registered with :func:`dovetail.formats.realise.register_cast`, so ``dv.cast`` and emulated models
run them in eager mode on the CPU. Bit-equal to :mod:`dovetail.formats.reference` at every
instruction-set level and for any number of threads.
"""

from __future__ import annotations

import ctypes
import math
from collections.abc import Sequence
from functools import lru_cache
from typing import Any, NamedTuple

import numpy as np
import torch
from torch import Tensor

from dovetail.errors import DovetailError
from dovetail.formats.base import BlockFormat, ElementFormat, Format
from dovetail.formats.block import PowerScaled
from dovetail.formats.codebook import CodebookFormat, book_of
from dovetail.formats.fixed import FixedFormat
from dovetail.formats.floating import FloatFormat
from dovetail.formats.realise import in_torch, is_stochastic, register_cast
from dovetail.formats.rounding import ROUNDINGS, Rounding
from dovetail.formats.scaled import NVFP4, ScaledBlock
from dovetail.kernels import native

__all__ = ["cast_into", "fake_quantize", "supports"]

_DTYPES = {torch.float32: 0, torch.float64: 1, torch.float16: 2, torch.bfloat16: 3}
_MODES = (*ROUNDINGS, "Stochastic")
_SCALE_MODES = ("FLOOR", "CEIL", "EVEN", "RCEIL")


class _Tensor(ctypes.Structure):
    _fields_ = (
        ("x", ctypes.c_void_p),
        ("out", ctypes.c_void_p),
        *((name, ctypes.c_int64) for name in ("outer", "length", "inner")),
        ("dtype", ctypes.c_int32),
        ("seed", ctypes.c_uint64),
    )


class _Element(ctypes.Structure):
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


class _StepsStruct(ctypes.Structure):
    _fields_ = (
        *((name, ctypes.c_void_p) for name in ("key", "value", "find")),
        *((name, ctypes.c_int32) for name in ("count", "shift", "halvings")),
    )


class _Blocks(ctypes.Structure):
    _fields_ = (
        ("block", ctypes.c_int64),
        *((name, ctypes.c_int32) for name in ("mode", "emax", "mantissa_bits", "low", "high")),
    )


class _Scaled(ctypes.Structure):
    _fields_ = (
        ("block", ctypes.c_int64),
        ("largest_element", ctypes.c_float),
        ("two_level", ctypes.c_int32),
        ("whole", ctypes.c_float),
    )


def _pair(positive: float, negative: float) -> Any:
    return (ctypes.c_double * 2)(positive, negative)


def _mode(rounding: Rounding) -> tuple[int, int]:
    return _MODES.index(rounding.name), rounding.bits


@lru_cache(maxsize=512)
def _element(fmt: FloatFormat | FixedFormat) -> _Element | None:
    """The format in the core's terms, or None if the core does not have it."""
    if isinstance(fmt, FixedFormat):
        limits = (fmt.max, fmt.min) if fmt.clamp else (math.inf, -math.inf)
        pairs = (_pair(*limits), _pair(*limits), _pair(*limits))
        return _Element(*_mode(fmt.rounding), -1, fmt.quantum, 0, 1, 0, 0, *pairs, 0.0, 0.0)
    first = fmt.quantum + fmt.mantissa
    if first < -1022 or (fmt.signed and not fmt.zero):
        return None
    return _Element(
        *_mode(fmt.rounding),
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


class _Steps(NamedTuple):
    """A code book as a step function; the arrays that the struct points to live as long."""

    struct: _StepsStruct
    arrays: tuple[np.ndarray[Any, Any], ...]


@lru_cache(maxsize=32)
def _steps(fmt: CodebookFormat) -> _Steps:
    """Where the cast of float32 numbers to ``fmt`` steps up: found by bisection over all of them.

    The cast is monotonic, so for each value of the format there is a least number that becomes at
    least that value; 32 halvings of the range of all numbers find it, for all values at once.
    """
    low, high = (_key(torch.tensor([v])).item() for v in (-math.inf, math.inf))
    values = set(book_of(fmt).values)
    values |= {-v for v in values if fmt.mirrored}
    wanted = torch.tensor(sorted(values), dtype=torch.float64).float()
    below = torch.full(wanted.shape, low - 1, dtype=torch.int64)
    reached = torch.full(wanted.shape, high, dtype=torch.int64)
    for _ in range(33):
        middle = (below + reached) >> 1
        inside = middle.clamp(low, high)
        up = in_torch(_number(inside), fmt) >= wanted
        reached = torch.where(up & (middle > below), inside, reached)
        below = torch.where(up, below, inside)
    keys = torch.cat((torch.tensor([low]), reached)).unique()
    value = in_torch(_number(keys), fmt)
    keep = torch.cat((torch.tensor([True]), value[1:] != value[:-1]))
    keys, value = keys[keep], value[keep]
    shift, find, halvings = _lookup(keys.numpy())
    pad = 1 << halvings
    key = np.concatenate([keys.numpy(), np.full(pad, 2**31 - 1)]).astype(np.int32)
    arrays = (key, np.concatenate([value.numpy(), np.repeat(value.numpy()[-1:], pad)]), find)
    pointers = (a.ctypes.data for a in arrays)
    return _Steps(_StepsStruct(*pointers, len(keys), shift, halvings), arrays)


def _key(x: Tensor) -> Tensor:
    """float32 numbers as integers in the same order."""
    bits = x.view(torch.int32)
    return (bits ^ ((bits >> 31) & 0x7FFFFFFF)).long()


def _number(key: Tensor) -> Tensor:
    bits = key.int()
    return (bits ^ ((bits >> 31) & 0x7FFFFFFF)).view(torch.float32)


def _lookup(
    keys: np.ndarray[Any, np.dtype[np.int64]],
) -> tuple[int, np.ndarray[Any, np.dtype[np.int32]], int]:
    """The coarsest first look-up (2**6 to 2**16 parts) that leaves one key per part, if any."""
    for shift in range(26, 15, -1):
        starts = np.arange(-(2**31), 2**31, 1 << shift)
        find = np.searchsorted(keys, starts, side="right") - 1
        find = np.maximum(find, 0)
        last = np.searchsorted(keys, starts + ((1 << shift) - 1), side="right") - 1
        most = int((last - find).max())
        if most <= 1:
            break
    return shift, find.astype(np.int32), most.bit_length()


def supports(fmt: Format, dtype: torch.dtype = torch.float32) -> bool:
    """Whether the core casts CPU tensors of ``dtype`` to ``fmt``.

    >>> from dovetail.formats import format
    >>> supports(format("mxfp4")) == native.available()
    True
    """
    if not native.available() or dtype not in _DTYPES:
        return False
    wide = dtype == torch.float64
    if isinstance(fmt, (FloatFormat, FixedFormat)):
        return _element(fmt) is not None
    if isinstance(fmt, CodebookFormat):
        return not wide and _is_stepwise(fmt)
    if isinstance(fmt, PowerScaled):
        element = fmt.element
        assert isinstance(element, (FloatFormat, FixedFormat))
        return _element(element) is not None and _narrow(element)
    if isinstance(fmt, ScaledBlock):
        return not wide and _narrow(fmt.scale) and _narrow(fmt.elements)
    return isinstance(fmt, NVFP4) and not wide


def _narrow(fmt: ElementFormat) -> bool:
    """Whether float32 words do for the format: none of its values is subnormal in float32."""
    if isinstance(fmt, CodebookFormat):
        return _is_stepwise(fmt)
    assert isinstance(fmt, (FloatFormat, FixedFormat))
    if fmt.rounding.is_stochastic and isinstance(fmt, FloatFormat) and not fmt.signed:
        return False
    lowest = fmt.quantum if isinstance(fmt, FixedFormat) else fmt.quantum + fmt.mantissa
    return _element(fmt) is not None and lowest >= -126 and -149 <= fmt.quantum <= 127


def _is_stepwise(fmt: CodebookFormat) -> bool:
    """Whether the cast never falls: towards zero it does where no zero lies between the signs."""
    whole = fmt.mirrored or fmt.rounding.name != "TowardZero" or 0.0 in book_of(fmt).values
    return whole and not fmt.rounding.is_stochastic


def cast_into(
    x: Tensor,
    fmt: Format,
    axis: int = -1,
    seed: int = 0,
    out: Tensor | None = None,
) -> Tensor | None:
    """``x`` rounded to ``fmt`` in one pass, in ``out`` if given (``x`` itself may be); no gradient.

    ``x`` is float32, float64, float16 or bfloat16 on the CPU, ``out`` of the same dtype and shape.
    Dense tensors of any layout are read where they lie; others are copied once. ``axis`` is where
    blocks run unless the format has its own. None where :func:`supports` says no.

    >>> from dovetail.formats import format
    >>> y = cast_into(torch.tensor([464.1, -1.03]), format("fp8_e4m3"))
    >>> y is None or y.tolist() == [448.0, -1.0]
    True
    """
    if x.device.type != "cpu" or not supports(fmt, x.dtype):
        return None
    x = x.detach()
    if isinstance(fmt, BlockFormat):
        axis = axis if fmt.axis is None else fmt.axis
        if not -x.dim() <= axis < x.dim():
            raise DovetailError(
                f"axis={axis} of '{fmt}' is not an axis of a tensor with {x.dim()} dimensions"
            )
        axis = axis % x.dim()
    dense = x.is_contiguous() or (not is_stochastic(fmt) and _is_dense(x))
    given = x if dense else x.contiguous()
    result = torch.empty_like(given) if out is None or out.stride() != given.stride() else out
    if x.numel():
        _call(given, result, fmt, axis, seed)
    return result if out is None or result is out else out.copy_(result)


def _is_dense(x: Tensor) -> bool:
    """Whether the elements fill their memory without gaps, in whatever order."""
    expected = 1
    for stride, size in sorted(zip(x.stride(), x.shape, strict=True)):
        if size != 1 and stride != expected:
            return False
        expected *= size
    return True


def _call(x: Tensor, out: Tensor, fmt: Format, axis: int, seed: int) -> None:
    core, ref = native._loaded(), ctypes.byref
    length = x.shape[axis] if isinstance(fmt, BlockFormat) else 1
    inner = x.stride(axis) if length > 1 else 1  # in memory, whatever the order of the axes
    outer = x.numel() // (length * inner)
    pointers = (x.data_ptr(), out.data_ptr())
    tensor = _Tensor(*pointers, outer, length, inner, _DTYPES[x.dtype], seed & (2**64 - 1))
    if isinstance(fmt, (FloatFormat, FixedFormat)):
        status = core.dv_cast_element(ref(tensor), ref(_need(fmt)))
    elif isinstance(fmt, CodebookFormat):
        status = core.dv_cast_steps(ref(tensor), ref(_steps(fmt).struct))
    elif isinstance(fmt, PowerScaled):
        element = fmt.element
        assert isinstance(element, (FloatFormat, FixedFormat))
        bits = element.mantissa if isinstance(element, FloatFormat) else element.width - 2
        mode = _SCALE_MODES.index(fmt.mode)
        blocks = _Blocks(fmt.block, mode, element.emax, bits, *fmt.exponents)
        status = core.dv_cast_blocks(ref(tensor), ref(_need(element)), ref(blocks))
    elif isinstance(fmt, ScaledBlock):
        steps = None
        elements = fmt.elements
        if isinstance(elements, CodebookFormat):
            steps, elements = ref(_steps(elements).struct), FixedFormat(8)
        assert isinstance(elements, (FloatFormat, FixedFormat))
        scaled = _Scaled(fmt.block, fmt.elements.max, 0, 1.0)
        status = core.dv_cast_scaled(
            ref(tensor), ref(_need(elements)), steps, ref(_need(fmt.scale)), ref(scaled)
        )
    else:
        assert isinstance(fmt, NVFP4)
        largest = ctypes.c_double()
        native._check(core.dv_largest(ref(tensor), ctypes.c_int64(fmt.block), ref(largest)))
        single = np.float32
        whole = max(single(largest.value) / single(448.0 * 6.0), single(2.0**-120))
        scaled = _Scaled(fmt.block, 6.0, 1, float(whole) if largest.value else 1.0)
        element = fmt.element
        assert isinstance(element, FloatFormat)
        status = core.dv_cast_scaled(
            ref(tensor), ref(_need(element)), None, ref(_need(_NVFP4_SCALE)), ref(scaled)
        )
    native._check(status)


_NVFP4_SCALE = FloatFormat(4, 3, specials="fn")


def _need(fmt: FloatFormat | FixedFormat) -> _Element:
    element = _element(fmt)
    assert element is not None
    return element


@register_cast
def _cast(
    x: Tensor, fmt: Format, axis: int, seed: Tensor | None, out: Tensor | None
) -> Tensor | None:
    if x.device.type != "cpu" or (seed is None and is_stochastic(fmt)):
        return None
    return cast_into(x, fmt, axis, 0 if seed is None else int(seed), out)


def fake_quantize(
    x: Tensor,
    scale: Tensor,
    zero_point: Tensor,
    qmin: int,
    qmax: int,
    axis: int | None = None,
    out: Tensor | None = None,
) -> Tensor:
    """Quantised and dequantised in one pass: ``(clamp(rint(x / s) + z) - z) * s``; no gradient.

    The bits of :func:`dovetail.formats.quantization.dequantize` of ``quantize``. ``x`` is float32,
    float16 or bfloat16 on the CPU; ``scale`` (float32) and ``zero_point`` are scalars, or hold one
    entry per index of ``axis``. ``out`` has ``x``'s shape and dtype and may be ``x``.

    >>> x, half, zero = torch.tensor([0.3, 9.0]), torch.tensor(0.5), torch.tensor(0)
    >>> not native.available() or fake_quantize(x, half, zero, -7, 7).tolist() == [0.5, 3.5]
    True
    """
    if x.device.type != "cpu" or x.dtype not in _DTYPES or x.dtype == torch.float64:
        raise DovetailError(
            f"fake_quantize takes float32, float16 or bfloat16 on the CPU, not {x.dtype} on "
            f"{x.device}"
        )
    given = x.detach().contiguous()
    scales = scale.detach().float().reshape(-1).contiguous()
    zeros = zero_point.detach().to(torch.int32).reshape(-1).contiguous()
    sizes: Sequence[int] = (1, 1, given.numel())
    if axis is not None:
        axis = axis % x.dim()
        before, after = given.shape[:axis], given.shape[axis + 1 :]
        sizes = (math.prod(before), given.shape[axis], math.prod(after))
    channels = max(scales.numel(), zeros.numel())
    if channels not in (1, sizes[1]):
        raise DovetailError(f"{channels} scales for {sizes[1]} channels")
    scales, zeros = (t.expand(channels).contiguous() for t in (scales, zeros))
    result = out if out is not None and out.is_contiguous() else torch.empty_like(given)
    tensor = _Tensor(given.data_ptr(), result.data_ptr(), *sizes, _DTYPES[x.dtype], 0)
    native._check(
        native._loaded().dv_cast_affine(
            ctypes.byref(tensor),
            ctypes.c_int64(channels),
            ctypes.c_void_p(scales.data_ptr()),
            ctypes.c_void_p(zeros.data_ptr()),
            qmin,
            qmax,
        )
    )
    return result if out is None or result is out else out.copy_(result)
