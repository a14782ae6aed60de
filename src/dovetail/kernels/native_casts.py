"""The native core's casts: every number format of :mod:`dovetail.formats`, at the speed of memory.

Registered with :func:`dovetail.formats.realise.register_cast`, so ``dv.cast`` and emulated models
run them in eager mode on the CPU. Bit-equal to :mod:`dovetail.formats.reference` at every
instruction-set level and for any number of threads.
"""

from __future__ import annotations

import ctypes
from functools import lru_cache
from typing import NamedTuple

import numpy as np
import torch
from torch import Tensor

from dovetail.errors import DovetailError
from dovetail.formats.base import BlockFormat, ElementFormat, Format
from dovetail.formats.block import PowerScaled
from dovetail.formats.codebook import CodebookFormat
from dovetail.formats.fixed import FixedFormat
from dovetail.formats.floating import FloatFormat
from dovetail.formats.posit import PositFormat
from dovetail.formats.realise import Report, is_stochastic, register_cast
from dovetail.formats.scaled import NVFP4, ScaledBlock
from dovetail.kernels import native
from dovetail.kernels.cast_structs import (
    DTYPES,
    Blocks,
    Element,
    Posit,
    ReportStruct,
    Scaled,
    TensorStruct,
    element_of,
    is_dense,
    mode_of,
    report_on,
    sizes_of,
    tensor_of,
)
from dovetail.kernels.cast_tables import Table, is_stepwise, octaves_of, steps_of

__all__ = ["CastPlan", "bounds_of", "cast_into", "plan_of", "supports"]

_SCALE_MODES = ("FLOOR", "CEIL", "EVEN", "RCEIL")
_NVFP4_SCALE = FloatFormat(4, 3, specials="fn")


def supports(fmt: Format, dtype: torch.dtype = torch.float32) -> bool:
    """Whether the core casts CPU tensors of ``dtype`` to ``fmt``.

    >>> from dovetail.formats import format
    >>> supports(format("mxfp4")) == native.available()
    True
    """
    if not native.available() or dtype not in DTYPES:
        return False
    wide = dtype == torch.float64
    if isinstance(fmt, (FloatFormat, FixedFormat)):
        return element_of(fmt) is not None
    if isinstance(fmt, CodebookFormat):
        return not wide and is_stepwise(fmt)
    if isinstance(fmt, PowerScaled):
        element = fmt.element
        assert isinstance(element, (FloatFormat, FixedFormat))
        return element_of(element) is not None and _narrow(element)
    if isinstance(fmt, ScaledBlock):
        return not wide and _narrow(fmt.scale) and _narrow(fmt.elements)
    return isinstance(fmt, NVFP4) and not wide


def _narrow(fmt: ElementFormat) -> bool:
    """Whether float32 words do for the format: none of its values is subnormal in float32."""
    if isinstance(fmt, CodebookFormat):
        return is_stepwise(fmt)
    assert isinstance(fmt, (FloatFormat, FixedFormat))
    if fmt.rounding.is_stochastic and isinstance(fmt, FloatFormat) and not fmt.signed:
        return False
    lowest = fmt.quantum if isinstance(fmt, FixedFormat) else fmt.quantum + fmt.mantissa
    return element_of(fmt) is not None and lowest >= -126 and -149 <= fmt.quantum <= 127


def cast_into(
    x: Tensor,
    fmt: Format,
    axis: int = -1,
    seed: int = 0,
    out: Tensor | None = None,
    scale: float | None = None,
    report: Report | None = None,
) -> Tensor | None:
    """``x`` rounded to ``fmt`` in one pass, in ``out`` if given (``x`` itself may be); no gradient.

    ``x`` is float32, float64, float16 or bfloat16 on the CPU, ``out`` of the same dtype and shape.
    Dense tensors of any layout are read where they lie; others are copied once. ``axis`` is where
    blocks run unless the format has its own; ``scale`` is NVFP4's of the tensor. ``report`` is
    filled in the same pass. None where :func:`supports` says no.

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
    dense = x.is_contiguous() or (not is_stochastic(fmt) and is_dense(x))
    given = x if dense else x.contiguous()
    result = torch.empty_like(given) if out is None or out.stride() != given.stride() else out
    asked = report_on(report, given, bounds_of(fmt, x.dtype))
    if x.numel():
        _call(given, result, fmt, axis, seed, scale, asked)
    return result if out is None or result is out else out.copy_(result)


def bounds_of(fmt: Format, dtype: torch.dtype) -> tuple[float, float]:
    """Between what a value, or an element of a block, does not clip.

    >>> from dovetail.formats import format
    >>> bounds_of(format("fixed(4, 0)"), torch.float32)
    (-8.5, 7.5)
    """
    if isinstance(fmt, BlockFormat):
        return fmt.element.bounds
    assert isinstance(fmt, ElementFormat)
    low, high = fmt.bounds
    if isinstance(fmt, FloatFormat) and fmt.magnitude:
        low = -high  # magnitudes are never below zero
    if dtype != torch.float64:  # comparisons are of float32 numbers
        low, high = torch.tensor((low, high), dtype=torch.float32).tolist()
    return low, high


class CastPlan(NamedTuple):
    """A function of the core and what it takes after the tensor; None is a null pointer."""

    function: str
    structs: tuple[ctypes.Structure | None, ...]
    tables: tuple[Table, ...] = ()  # whose structs are among those


@lru_cache(maxsize=512)
def plan_of(fmt: Format) -> CastPlan:
    """How the core casts to a format that it :func:`supports`.

    >>> from dovetail.formats import format
    >>> plan_of(format("fp8_e4m3")).function
    'dv_cast_element'
    """
    if isinstance(fmt, PositFormat):
        return CastPlan("dv_cast_posit", (Posit(mode_of(fmt.rounding)[0], fmt.width, fmt.es),))
    if isinstance(fmt, CodebookFormat):
        octaves = octaves_of(fmt)
        table = octaves or steps_of(fmt)
        name = "dv_cast_octaves" if octaves else "dv_cast_steps"
        return CastPlan(name, (table.struct,), (table,))
    if isinstance(fmt, PowerScaled):
        bits, mode = fmt.mantissa_bits, _SCALE_MODES.index(fmt.mode)
        blocks = Blocks(fmt.block, mode, fmt.element.emax, bits, *fmt.exponents)
        return CastPlan("dv_cast_blocks", (_need(fmt.element), blocks))
    if isinstance(fmt, ScaledBlock):
        scaled = Scaled(fmt.block, fmt.elements.max, 0, 1.0)
        return _scaled_plan(fmt.elements, fmt.scale, scaled)
    if isinstance(fmt, NVFP4):  # the tensor's own scale is known when it is cast
        return _scaled_plan(fmt.element, _NVFP4_SCALE, Scaled(fmt.block, 6.0, 1, 1.0))
    return CastPlan("dv_cast_element", (_need(fmt),))


def _scaled_plan(
    elements: ElementFormat, scale: FloatFormat | FixedFormat, rule: Scaled
) -> CastPlan:
    table = steps_of(elements) if isinstance(elements, CodebookFormat) else None
    element = _need(FixedFormat(8) if table else elements)
    steps = table and table.struct
    return CastPlan(
        "dv_cast_scaled", (element, steps, _need(scale), rule), (table,) if table else ()
    )


def _call(
    x: Tensor,
    out: Tensor,
    fmt: Format,
    axis: int,
    seed: int,
    scale: float | None,
    report: ReportStruct | None,
) -> None:
    sizes = sizes_of(x, axis if isinstance(fmt, BlockFormat) else None)
    tensor = tensor_of(x, out, sizes, seed, report)
    plan = plan_of(fmt)
    structs = plan.structs
    if isinstance(fmt, NVFP4):
        whole = _whole_scale(tensor, fmt.block) if scale is None else scale
        structs = (*structs[:-1], Scaled(fmt.block, 6.0, 1, whole))
    pointers = (None if s is None else ctypes.byref(s) for s in structs)
    native._check(getattr(native._loaded(), plan.function)(ctypes.byref(tensor), *pointers))


def _whole_scale(tensor: TensorStruct, block: int) -> float:
    """The tensor's own scale, from its largest finite magnitude."""
    largest = ctypes.c_double()
    status = native._loaded().dv_largest(
        ctypes.byref(tensor), ctypes.c_int64(block), ctypes.byref(largest)
    )
    native._check(status)
    single = np.float32
    whole = max(single(largest.value) / single(448.0 * 6.0), single(2.0**-120))
    return float(whole) if largest.value else 1.0


def _need(fmt: Format) -> Element:
    assert isinstance(fmt, (FloatFormat, FixedFormat))
    element = element_of(fmt)
    assert element is not None
    return element


@register_cast
def _cast(
    x: Tensor,
    fmt: Format,
    axis: int,
    seed: Tensor | None,
    out: Tensor | None,
    scale: Tensor | None,
    report: Report | None,
) -> Tensor | None:
    if x.device.type != "cpu" or (seed is None and is_stochastic(fmt)):
        return None
    whole = None if scale is None else float(scale)
    return cast_into(x, fmt, axis, 0 if seed is None else int(seed), out, whole, report)
