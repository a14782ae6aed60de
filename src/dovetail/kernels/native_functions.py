"""The native core's approximated functions: pieces, Newton steps, softmax and normalisations.

Registered with :func:`dovetail.approximations.door.register_computation`. Bit-equal to
:mod:`dovetail.approximations.reference` at every instruction-set level and for any number of
threads.
"""

from __future__ import annotations

import ctypes
import math
from dataclasses import dataclass
from functools import lru_cache
from typing import Any

import torch
from torch import Tensor

from dovetail.approximations import Approximation, Function, Norm, Softmax, Unary
from dovetail.approximations.chunks import NARROW
from dovetail.approximations.door import NormOf, register_computation
from dovetail.kernels import native
from dovetail.kernels.cast_structs import is_dense
from dovetail.kernels.function_structs import NormStruct, SoftmaxStruct, rounding_of
from dovetail.kernels.function_units import EXACT_ROOT, Unit, unit_of

__all__ = ["computes"]

_WIDE = (torch.float32, torch.float64)


def computes(approximation: Approximation, kind: str) -> bool:
    """Whether the core computes float32 and float64 CPU tensors of this approximation and kind.

    >>> from dovetail.approximations import approximation
    >>> computes(approximation("pwl(16)"), "gelu") == native.available()
    True
    >>> computes(approximation("softmax()"), "softmax")  # torch's own exponentials
    False
    """
    if not native.available():
        return False
    whole = approximation.within(kind) if isinstance(approximation, Unary) else approximation
    if isinstance(whole, Softmax):
        return kind == "softmax" and _softmax(whole, torch.float32) is not None
    if isinstance(whole, Norm):
        return _norm(whole) is not None
    return isinstance(approximation, Unary) and unit_of(approximation, kind) is not None


@register_computation
def _compute(approximation: Approximation, x: Tensor, what: Any) -> Tensor | None:
    if x.device.type != "cpu" or x.dtype not in (*_WIDE, *NARROW) or not native.available():
        return None
    wide = x.to(torch.float64) if x.dtype in NARROW else x  # from there they are rounded once
    if isinstance(what, Function):
        assert isinstance(approximation, Unary)
        y = _values(unit_of(approximation, what.name), wide)
    elif isinstance(what, NormOf):
        assert isinstance(approximation, Norm)
        y = _norms(_norm(approximation), wide, what)
    else:
        assert isinstance(approximation, Softmax)
        made = _softmax(approximation, x.dtype)
        y = None if made is None else _rows("dv_softmax_rows", made.struct, wide)
    return None if y is None else y.to(x.dtype)


def _values(unit: Unit | None, x: Tensor) -> Tensor | None:
    if unit is None:
        return None
    x = x.detach()
    x = x if is_dense(x) else x.contiguous()
    out = torch.empty_like(x)
    wide = int(x.dtype == torch.float64)
    native._check(
        native._loaded().dv_unary(
            *(ctypes.byref(unit.struct), ctypes.c_void_p(x.data_ptr())),
            *(ctypes.c_int64(x.numel()), wide, ctypes.c_void_p(out.data_ptr())),
        )
    )
    return out


def _rows(function: str, struct: ctypes.Structure, x: Tensor) -> Tensor:
    x = x.detach().contiguous()
    out = torch.empty_like(x)
    native._check(
        getattr(native._loaded(), function)(
            *(ctypes.byref(struct), ctypes.c_void_p(x.data_ptr())),
            *map(ctypes.c_int64, x.shape),
            *(int(x.dtype == torch.float64), ctypes.c_void_p(out.data_ptr())),
        )
    )
    return out


@dataclass(frozen=True, eq=False)
class _Rows:
    """What the core is told of rows, and the units that it points to."""

    struct: Any
    units: tuple[Unit, ...]


@lru_cache(maxsize=256)
def _softmax(approximation: Softmax, dtype: torch.dtype) -> _Rows | None:
    if approximation.exp is None:
        return None  # torch's own, which no other code has
    exp = _part(approximation.exp, "exp")
    divides = approximation.reciprocal is None
    reciprocal = exp if divides else _part(approximation.reciprocal, "reciprocal")
    rounding = rounding_of(approximation.format)
    sums = rounding_of(approximation.acc or approximation.format)
    if exp is None or reciprocal is None or rounding is None or sums is None:
        return None
    clamp = -math.inf if approximation.clamp is None else approximation.clamp
    keeps, hidden = approximation.largest == "keep", torch.finfo(dtype).min / 2
    parts = (exp.struct, reciprocal.struct)
    struct = SoftmaxStruct(*parts, divides, keeps, clamp, hidden, rounding, sums)
    return _Rows(struct, (exp, reciprocal))


@lru_cache(maxsize=256)
def _norm(approximation: Norm) -> _Rows | None:
    rsqrt = EXACT_ROOT if approximation.rsqrt is None else _part(approximation.rsqrt, "rsqrt")
    rounding = rounding_of(approximation.format)
    sums = rounding_of(approximation.acc or approximation.format)
    if rsqrt is None or rounding is None or sums is None:
        return None
    moments, scale = approximation.variance == "moments", approximation.scale
    struct = NormStruct(rsqrt.struct, 0, moments, scale, 0.0, None, None, rounding, sums)
    return _Rows(struct, (rsqrt,))


def _norms(made: _Rows | None, x: Tensor, of: NormOf) -> Tensor | None:
    if made is None:
        return None
    known, affine = made.struct, [None if t is None else _padded(t) for t in (of.weight, of.bias)]
    pointers = (None if t is None else t.data_ptr() for t in affine)
    eps = of.eps * known.scale**2
    struct = NormStruct(
        *(known.rsqrt, of.centred, known.moments, known.scale, eps, *pointers),
        *(known.rounding, known.sums),
    )
    return _rows("dv_norm_rows", struct, x)


def _padded(values: Tensor) -> Tensor:
    """As the core reads it: a multiple of eight numbers."""
    return torch.nn.functional.pad(values.detach(), (0, -len(values) % 8))


def _part(part: Approximation | None, name: str) -> Unit | None:
    assert isinstance(part, Unary)
    return unit_of(part, name)
