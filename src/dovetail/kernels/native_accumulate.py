"""The native core's sums through an accumulator, step by step, over packed weights.

Every accumulator but those whose adder is a Python function, in every order; products of bytes,
multiplied or looked up, and of float32 numbers. Bit-equal to
:mod:`dovetail.kernels.accumulate_reference` at every instruction-set level and thread count.
"""

from __future__ import annotations

import ctypes
from dataclasses import dataclass
from typing import Any

import numpy as np
import numpy.typing as npt
import torch
from torch import Tensor

from dovetail.accumulators import (
    Accumulator,
    AdderAccumulator,
    FloatAccumulator,
    IntAccumulator,
)
from dovetail.formats import FloatFormat
from dovetail.formats import format as parse_format
from dovetail.kernels import native
from dovetail.kernels.accumulate import Totals, additions, term_length
from dovetail.kernels.cast_structs import Element, element_of
from dovetail.kernels.geometry import LINEAR, Geometry
from dovetail.kernels.native_forms import Form, factor_bytes, holds, signs, table_bytes
from dovetail.kernels.native_products import NativeMac
from dovetail.kernels.native_shape import address, packing_shape, running_shape
from dovetail.kernels.native_structs import Input, Output
from dovetail.kernels.realisation import Operands
from dovetail.multipliers import Multiplier

__all__ = ["NativeSteps", "PackedSteps", "steps_of_codes", "steps_of_values"]

_ADDERS = {"loa": 2, "truncated": 3, "eta": 4}
_KNOWN = {parse_format(name): i for i, name in enumerate(("fp32", "fp16", "bf16"), start=1)}


class _Products(ctypes.Structure):
    _fields_ = (
        *((name, ctypes.c_int32) for name in ("source", "first_signed", "second_signed")),
        *((name, ctypes.c_void_p) for name in ("first", "second", "table")),
        ("bound", ctypes.c_int64),
    )


class _Accumulator(ctypes.Structure):
    _fields_ = (
        *((name, ctypes.c_int32) for name in ("kind", "bits", "low", "order")),
        ("run", ctypes.c_int64),
        ("chunk", ctypes.c_int64),
        ("known", ctypes.c_int32),
        ("min", ctypes.c_double),
        ("max", ctypes.c_double),
        ("format", Element),
    )


class _Totals(ctypes.Structure):
    _fields_ = (
        ("sums", Output),
        ("wide", ctypes.c_int32),
        ("upper", ctypes.c_void_p),
        ("overflows", ctypes.c_void_p),
    )


@dataclass(frozen=True, eq=False)
class PackedSteps:
    """A weight's codes or numbers in the kernels' order.

    >>> PackedSteps.__name__
    'PackedSteps'
    """

    steps: NativeSteps
    geometry: Geometry
    shape: tuple[int, ...]
    data: Tensor  # uint8

    @property
    def wsum(self) -> Tensor:
        """int32 [N]: the sum of each output's weight codes."""
        return self.data[: 4 * self.shape[0]].view(torch.int32)


class NativeSteps:
    """Products of one kind through one accumulator.

    Make it with :func:`steps_of_codes` or :func:`steps_of_values`.
    """

    def __init__(self, acc: Accumulator, source: int, dtypes: tuple[torch.dtype, ...]) -> None:
        self.acc, self.dtypes = acc, dtypes
        self._kept: list[Any] = []  # what the struct points to
        self._struct = _Products(source, *(int(d == torch.int8) for d in dtypes))

    @property
    def bound(self) -> int | None:
        """Of the magnitude of integer products."""
        return None if self._struct.source == 2 else int(self._struct.bound)

    def holds(self, depth: int) -> bool:
        """Whether the core's sums of ``depth`` products are exact.

        >>> from dovetail.accumulators import accumulator
        >>> steps = steps_of_values(accumulator("fp16"))
        >>> steps is None or steps.holds(100)
        True
        """
        if self.bound is None:
            return depth > 0
        term = self.bound * min(depth, term_length(self.acc, depth) or 1)
        return depth > 0 and term < (2**53 if isinstance(self.acc, FloatAccumulator) else 2**62)

    def pack(self, w: Tensor, geometry: Geometry = LINEAR) -> PackedSteps:
        """Weight ``[N, K]`` or ``[O, C / groups, *kernel]`` in the kernels' order."""
        core = native._loaded()
        w = w.detach().to(self.dtypes[1]).contiguous()
        shape = packing_shape(tuple(w.shape), geometry)
        size = core.dv_accumulate_packed_bytes(ctypes.byref(shape), self._struct.source)
        if size < 0:
            native._check(1)
        data = torch.empty(size, dtype=torch.uint8)
        native._check(
            core.dv_accumulate_pack(
                *(ctypes.byref(shape), ctypes.byref(self._struct)),
                *(address(w), address(data)),
            )
        )
        return PackedSteps(self, geometry, tuple(w.shape), data)

    def totals(
        self, a: Tensor, packed: PackedSteps, pad_code: int = 0, *, counting: bool = False
    ) -> Totals:
        """What the registers hold, in the accumulator's dtype, and what overflowed."""
        a = a.detach().to(self.dtypes[0]).contiguous()
        source = Input(a.data_ptr(), 1, 1.0, 0, 0, 0, pad_code & 0xFF)
        acc, shape = self.acc, packed.geometry.out_shape(a.shape, packed.shape)
        result = acc.result_dtype(2**63)
        wide = result.itemsize == 8
        sums, upper = (torch.empty(shape, dtype=torch.int32) for _ in range(2))
        overflows = torch.zeros(shape, dtype=torch.int32) if counting else None
        self._run(a, packed, source, Output(sums.data_ptr(), 0, 0, None, None), upper, overflows)
        if wide:
            sums = torch.stack((sums, upper), -1).view(result).squeeze(-1)
        total = sums.view(result).to(acc.dtype)
        depth = packed.geometry.reduction(packed.shape)
        counts = None if overflows is None else overflows.long()
        return Totals(total, counts, additions(acc, depth))

    def finished(
        self,
        x: Tensor,
        packed: PackedSteps,
        quantizer: tuple[float, int, int, int],
        scale: Tensor,
        bias: Tensor | None,
    ) -> Tensor:
        """The whole op on float32, for integer registers of at most 32 bits: quantise, accumulate,

        ``y[n] = float32(sum - zero_point * wsum[n]) * scale[n] + bias[n]``, each step rounded.
        """
        x = native._need("x", x, (torch.float32,))
        step, zero, low, high = quantizer
        native._need_grid(step, zero, low, high)
        source = Input(x.data_ptr(), 0, step, zero, low, high, 0)
        scale = native._need("scale", scale, (torch.float32,))
        bias = None if bias is None else native._need("bias", bias.float(), (torch.float32,))
        out = torch.empty(packed.geometry.out_shape(x.shape, packed.shape))
        target = Output(
            *(out.data_ptr(), 1, zero, scale.data_ptr()),
            None if bias is None else bias.data_ptr(),
        )
        self._run(x, packed, source, target, None, None)
        return out

    def _run(
        self,
        a: Tensor,
        packed: PackedSteps,
        source: Input,
        target: Output,
        upper: Tensor | None,
        overflows: Tensor | None,
    ) -> None:
        geometry = packed.geometry
        if 0 in geometry.out_shape(a.shape, packed.shape):
            return
        shape = running_shape(a, packed.shape, geometry)
        wide = self.acc.result_dtype(2**63).itemsize == 8
        totals = _Totals(
            target,
            int(wide),
            None if upper is None else upper.data_ptr(),
            None if overflows is None else overflows.data_ptr(),
        )
        acc = _struct(self.acc, geometry.reduction(packed.shape))
        native._check(
            native._loaded().dv_accumulate_run(
                *(ctypes.byref(s) for s in (shape, self._struct, acc)),
                address(packed.data),
                *(ctypes.byref(s) for s in (source, totals)),
            )
        )


def steps_of_codes(mul: Multiplier, operands: Operands, acc: Accumulator) -> NativeSteps | None:
    """The core's steps for products of codes, or ``None`` where it has none.

    >>> from dovetail.accumulators import accumulator
    >>> from dovetail.multipliers import multiplier
    >>> codes = Operands((-2048, 2047), (-2048, 2047))
    >>> steps_of_codes(multiplier("exact"), codes, accumulator("int16(saturate)")) is None
    True
    """
    if not (_offered(acc) and holds(mul, operands)):
        return None
    codes = tuple(torch.int8 if signed else torch.uint8 for signed in signs(mul, operands))
    if mul.bits is None:
        steps = NativeSteps(acc, 0, codes)
    elif (sides := _one_factor(factor_bytes(mul, operands, 1))) is not None:
        steps = NativeSteps(acc, 0, codes)
        steps._kept += sides
        steps._struct.first, steps._struct.second = (side.ctypes.data for side in sides)
        signed = (int(side.dtype == np.int8) for side in sides)
        steps._struct.first_signed, steps._struct.second_signed = signed
    else:
        mac = NativeMac.table(table_bytes(mul, operands), signs(mul, operands))
        steps = NativeSteps(acc, 1, codes)
        steps._kept.append(mac)
        steps._struct.table = mac._table.data_ptr()
    steps._struct.bound = operands.bound(mul)
    return steps


def _one_factor(form: Form | None) -> list[npt.NDArray[Any]] | None:
    """The bytes whose products the multiplier's are, if one product of bytes is all it takes."""
    if form is None or form.rank > 1 or form.constant.any():
        return None
    sides = []
    for side in (form.first[0], form.second[0]):
        kind = np.int8 if side.min() < 0 else np.uint8
        if side.max() > np.iinfo(kind).max or side.min() < np.iinfo(kind).min:
            return None
        sides.append(np.ascontiguousarray(side, dtype=kind))
    return sides


def steps_of_values(acc: Accumulator) -> NativeSteps | None:
    """The core's steps for products of float32 numbers.

    >>> from dovetail.accumulators import accumulator
    >>> steps_of_values(accumulator("int16(saturate)")) is None
    True
    """
    if not (_offered(acc) and isinstance(acc, FloatAccumulator)):
        return None
    return NativeSteps(acc, 2, (torch.float32, torch.float32))


def _offered(acc: Accumulator) -> bool:
    if not native.available():
        return False
    if isinstance(acc, AdderAccumulator):
        return acc.function is None
    return isinstance(acc, IntAccumulator) or (
        isinstance(acc, FloatAccumulator) and element_of(acc.format) is not None
    )


def _struct(acc: Accumulator, depth: int) -> _Accumulator:
    order = 1 if acc.order == "tree" else 2 if acc.run else 0
    common = (order, acc.run or 0, term_length(acc, depth) or 0)
    if isinstance(acc, FloatAccumulator):
        fmt: FloatFormat = acc.format
        limits = (fmt.min if not fmt.signed else -fmt.max, fmt.max)
        element = element_of(fmt)
        assert element is not None
        return _Accumulator(5, 0, 0, *common, _KNOWN.get(fmt, 0), *limits, element)
    if isinstance(acc, AdderAccumulator):
        return _Accumulator(_ADDERS[acc.name], acc.bits, acc.low, *common)
    assert isinstance(acc, IntAccumulator)
    return _Accumulator(int(acc.overflow == "saturate"), acc.bits, 0, *common)
