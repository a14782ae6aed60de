"""The native core as the realisation ``native-wide``: operands of up to 16 bits, sums of 64.

It holds for every multiplier with exact factors and for the families without (Mitchell's, MBM, ALM,
ETM), at any two widths; sums are exact in 64 bits, so nothing needs a way out.
"""

from __future__ import annotations

import ctypes
from dataclasses import dataclass
from typing import Any

import numpy as np
import torch
from torch import Tensor

from dovetail.errors import DovetailError
from dovetail.kernels import native
from dovetail.kernels.geometry import Geometry
from dovetail.kernels.native_shape import address, packing_shape, running_shape
from dovetail.kernels.native_structs import Input, Output
from dovetail.kernels.realisation import MacKernel, Operands, register_realisation, sum_dtype
from dovetail.kernels.wide_words import ERROR_TOLERANT, FACTORS, LOG_MEAN, LOG_OR, Words, words_of
from dovetail.multipliers import Multiplier

__all__ = ["NativeWide"]

#: Time of a large layer, one thread, as a ratio to torch float32 (benchmarks/wide.py): per
#: segment of 16-bit factors, and of products in the float patterns of a logarithm.
COSTS = {
    "scalar": (2.8, 8.5),
    "avx2": (1.25, 4.0),
    "avx512": (0.95, 3.1),
    "avx512vnni": (0.6, 3.1),
    "amx": (0.6, 3.1),
}
BESIDES = 0.15  # quantisation and the like
HALVES = 1.5  # over that where products are too large to be summed whole
LAWS = {LOG_OR: 1.25, LOG_MEAN: 1.6, ERROR_TOLERANT: 5.5}  # over Mitchell's


class _Wide(ctypes.Structure):
    _fields_ = (
        *((name, ctypes.c_int32) for name in ("law", "first_bits", "second_bits")),
        *((name, ctypes.c_int32) for name in ("first_words", "second_words", "segments")),
        *((name, ctypes.c_void_p) for name in ("first", "second", "segment", "constant")),
        ("low", ctypes.c_uint32),
        ("signed", ctypes.c_int32),
        ("most", ctypes.c_int64),
    )


@dataclass(frozen=True, eq=False)
class _Packed:
    """Weights in the core's order; the same for every instruction-set level."""

    shape: tuple[int, ...]
    data: Tensor  # uint8


def _holds(mul: Multiplier, operands: Operands) -> bool:
    if not (native.available() and operands.device == "cpu"):
        return False
    return words_of(mul, operands) is not None


def _cost(mul: Multiplier, operands: Operands) -> float:
    words = words_of(mul, operands)
    assert words is not None
    segment, law = COSTS[native.isa()]
    if words.law == FACTORS:
        return BESIDES + segment * len(words.segments)
    return BESIDES + law * LAWS.get(words.law, 1.0) * (HALVES if words.most > 1 << 26 else 1.0)


@register_realisation("mac", when=_holds, cost=_cost, name="native-wide")
class NativeWide(MacKernel):
    """Products of 16-bit factors, or of logarithms, in the core's integer arithmetic."""

    name = "native-wide"
    sum_bits = 62

    def __init__(self, mul: Multiplier, operands: Operands) -> None:
        words = words_of(mul, operands)
        assert words is not None
        self.words, self.bound = words, operands.bound(mul)
        self._segments = np.array(words.segments, dtype=np.int32)
        self._struct = _struct(words, self._segments)

    def pack(self, w: Tensor, geometry: Geometry) -> _Packed:
        weight = tuple(w.shape)
        if 0 in weight:
            return _Packed(weight, torch.empty(0, dtype=torch.uint8))
        core, codes = native._loaded(), w.detach().to(torch.int16).contiguous()
        shape = packing_shape(weight, geometry)
        size = core.dv_wide_packed_bytes(ctypes.byref(shape), ctypes.byref(self._struct))
        if size < 0:
            raise DovetailError(f"weight codes {weight} do not fit {geometry}")
        data = torch.empty(size, dtype=torch.uint8)
        native._check(
            core.dv_wide_pack(
                *(ctypes.byref(shape), ctypes.byref(self._struct)),
                *(address(codes), address(data)),
            )
        )
        return _Packed(weight, data)

    def sums(self, a: Tensor, packed: _Packed, geometry: Geometry, pad_code: int) -> Tensor:
        codes = a.detach().to(torch.int16).contiguous()
        out = torch.zeros(geometry.out_shape(a.shape, packed.shape), dtype=torch.int64)
        source = Input(codes.data_ptr(), 1, 1.0, 0, 0, 0, pad_code)
        self._run(codes, packed, geometry, source, Output(out.data_ptr(), 0, 0, None, None))
        return out.to(sum_dtype(self.bound * geometry.reduction(packed.shape)))

    def fused(
        self,
        x: Tensor,
        quantizer: tuple[float, int, int, int],
        packed: Any,
        geometry: Geometry,
        scale: Tensor,
        bias: Tensor | None,
    ) -> Tensor | None:
        step, zero, low, high = quantizer
        x = native._need("x", x, (torch.float32,))
        out = torch.empty(geometry.out_shape(x.shape, packed.shape))
        if 0 in (x.numel(), packed.data.numel()):
            return None
        scale = scale.detach().float().contiguous()
        bias = None if bias is None else bias.detach().float().contiguous()
        source = Input(x.data_ptr(), 0, step, zero, low, high, 0)
        added = None if bias is None else bias.data_ptr()
        target = Output(out.data_ptr(), 1, zero, scale.data_ptr(), added)
        self._run(x, packed, geometry, source, target)
        return out

    def _run(
        self, a: Tensor, packed: _Packed, geometry: Geometry, source: Input, target: Output
    ) -> None:
        if 0 in (a.numel(), packed.data.numel()):
            return
        native._check(
            native._loaded().dv_wide_run(
                ctypes.byref(running_shape(a, packed.shape, geometry)),
                *(ctypes.byref(self._struct), address(packed.data)),
                *(ctypes.byref(source), ctypes.byref(target)),
            )
        )


def _struct(words: Words, segments: np.ndarray[Any, np.dtype[np.int32]]) -> _Wide:
    """The core's view of ``words``, which must outlive it."""
    factors = words.law == FACTORS
    return _Wide(
        *(words.law, *words.bits),
        words.first.shape[1] if factors else 1,
        words.second.shape[1] if factors else 1,
        len(segments),
        words.first.ctypes.data,
        words.second.ctypes.data,
        segments.ctypes.data if factors else None,
        None if words.constant is None else words.constant.ctypes.data,
        *(words.low, int(words.signed), words.most),
    )
