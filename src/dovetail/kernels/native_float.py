"""The native core's layers of a floating-point multiplier."""

from __future__ import annotations

import ctypes
from dataclasses import dataclass
from functools import lru_cache

import numpy as np
import torch
from torch import Tensor

from dovetail.kernels import native
from dovetail.kernels.geometry import Geometry
from dovetail.kernels.native_shape import address, packing_shape, running_shape
from dovetail.multipliers import FloatMultiplier
from dovetail.multipliers.float_structure import structure_of
from dovetail.multipliers.floating import FLOAT32

__all__ = ["PackedFloats", "computes", "float_mac", "holds", "pack"]

_FORMS = ("values", "logarithms", "table")
_SPARE = 16  # floats that may be read beyond a table


class _FloatMul(ctypes.Structure):
    _fields_ = (
        *((name, ctypes.c_int32) for name in ("form", "mantissa", "offset", "bits")),
        *((name, ctypes.c_void_p) for name in ("rows", "lanes", "table")),
    )


@dataclass(frozen=True, eq=False)
class _Multiplier:
    """A multiplier as the core takes it, and the memory that it points to."""

    structure: _FloatMul
    memory: tuple[Tensor, ...]


@dataclass(frozen=True, eq=False)
class PackedFloats:
    """A weight in the order of one instruction-set level's kernels."""

    mul: FloatMultiplier
    geometry: Geometry
    shape: tuple[int, ...]
    data: Tensor  # uint8


def computes(mul: FloatMultiplier) -> bool:
    """Whether the core, where there is one, computes this multiplier: products of significands
    below ``2**24`` that were all listed, kept in float32.

    >>> from dovetail.multipliers import multiplier
    >>> computes(multiplier("mitchell", format="bf16"))
    True
    >>> computes(multiplier("mitchell", format="bf16", output="bf16"))
    False
    """
    return mul.output == FLOAT32 and structure_of(mul).form in _FORMS and _bits(mul) <= 24


def holds(mul: FloatMultiplier) -> bool:
    """:func:`computes`, and the core is there.

    >>> from dovetail.multipliers import multiplier
    >>> holds(multiplier("mitchell", format="bf16")) == native.available()
    True
    """
    return native.available() and computes(mul)


def _bits(mul: FloatMultiplier) -> int:
    return max(1, structure_of(mul).largest.bit_length())


@lru_cache(maxsize=64)
def _multiplier(mul: FloatMultiplier, linear: bool) -> _Multiplier:
    """Rows are the first operand of a linear layer, and the second of a convolution."""
    found = structure_of(mul)
    whole = found.extended if linear else found.extended.T
    flat = np.concatenate([whole.ravel(), np.zeros(_SPARE)]).astype(np.float32)
    memory = [torch.from_numpy(flat)]
    if found.factors is not None:
        sides = found.factors if linear else found.factors[::-1]
        memory += [torch.from_numpy(side.astype(np.float32)) for side in sides]
    table, *sides_at = (t.data_ptr() for t in memory)
    rows, lanes = sides_at or (None, None)
    form = _FORMS.index(found.form)
    structure = _FloatMul(form, found.mantissa, found.offset or 0, _bits(mul), rows, lanes, table)
    return _Multiplier(structure, tuple(memory))


def pack(w: Tensor, mul: FloatMultiplier, geometry: Geometry) -> PackedFloats:
    """``w`` (``[N, K]`` or ``[O, C/groups, *kernel]``), values of the multiplier's format."""
    core = native._loaded()
    core.dv_float_packed_bytes.restype = ctypes.c_int64
    shape = packing_shape(tuple(w.shape), geometry)
    made = _multiplier(mul, geometry.spatial == 0)
    size = core.dv_float_packed_bytes(ctypes.byref(shape), ctypes.byref(made.structure))
    if size < 0:
        native._check(1)
    values, data = w.detach().float().contiguous(), torch.empty(size, dtype=torch.uint8)
    native._check(
        core.dv_float_pack(
            *(ctypes.byref(shape), ctypes.byref(made.structure)),
            *(address(values), address(data)),
        )
    )
    return PackedFloats(mul, geometry, tuple(w.shape), data)


def float_mac(x: Tensor, packed: PackedFloats, bias: Tensor | None) -> Tensor:
    """``x``, values of the multiplier's format, multiplied with packed weights; float32."""
    geometry = packed.geometry
    out = torch.empty(geometry.out_shape(x.shape, packed.shape))
    x = native._need("x", x.float(), (torch.float32,))
    shape = running_shape(x, packed.shape, geometry)
    if bias is not None:
        bias = native._need("bias", bias.float(), (torch.float32,))
    made = _multiplier(packed.mul, geometry.spatial == 0)
    native._check(
        native._loaded().dv_float_run(
            *(ctypes.byref(shape), ctypes.byref(made.structure), address(packed.data)),
            *(address(x), None if bias is None else address(bias)),
            address(out),
        )
    )
    return out
