"""``dovetail::slopes``: what the terms of a gradient table make of an operand's codes."""

from __future__ import annotations

from functools import lru_cache

import numpy as np
import torch
from torch import Tensor
from torch.library import Library, register_fake, register_vmap

from dovetail._eager import is_eager
from dovetail.arithmetic import Arithmetic
from dovetail.formats.quantization import quantize
from dovetail.formats.rounding import NEAREST_EVEN
from dovetail.gradients import Terms, terms_of
from dovetail.kernels import native, native_integers
from dovetail.kernels.batching import one_by_one
from dovetail.kernels.layer import integer

__all__ = ["slopes", "terms_for"]

_library = Library("dovetail", "FRAGMENT")
_library.define("slopes(Tensor x, Tensor scale, Tensor zero, str arithmetic, str part) -> Tensor")

_FIRST, _SCALED = ("p", "u"), ("q", "u")


def terms_for(arithmetic: Arithmetic) -> Terms | None:
    """The terms of the arithmetic's gradient; None if it is the exact product's."""
    return terms_of(arithmetic.grad, arithmetic.code_multiplier, *arithmetic.code_ranges)


def slopes(x: Tensor, scale: Tensor, zero: Tensor, arithmetic: str, part: str) -> Tensor:
    """``[terms, *x.shape]``: the part ``p``, ``q``, ``u`` or ``v`` of the terms at ``x``'s codes.

    In float32, of float64 operands in float64. ``q`` and ``u``, which stand for an operand, are in
    its units: times its scale. No gradient is recorded.
    """
    op = _slopes if is_eager() else torch.ops.dovetail.slopes
    y: Tensor = op(x.detach(), scale, zero, arithmetic, part)
    return y


def _slopes(x: Tensor, scale: Tensor, zero: Tensor, arithmetic: str, part: str) -> Tensor:
    rule = Arithmetic.parse(arithmetic)
    fmt = integer(rule.input if part in _FIRST else rule.weight)
    table = _table(rule, part, x.dtype == torch.float64).to(x.device)
    axis = 0 if scale.dim() else None
    plain = x.device.type == "cpu" and x.dtype == torch.float32
    if plain and fmt.rounding == NEAREST_EVEN and is_eager() and native.available():
        return native_integers.look_up(x, fmt, scale, zero, axis, table, part in _SCALED)
    codes = quantize(x, fmt, scale, zero, axis)
    y = table[:, codes.long() - fmt.qmin]
    if part not in _SCALED:
        return y
    return y.mul_(scale.view(1, -1, *[1] * (x.dim() - 1)) if scale.dim() else scale)


@lru_cache(maxsize=256)
def _table(rule: Arithmetic, part: str, wide: bool) -> Tensor:
    terms = terms_for(rule)
    assert terms is not None
    rows = getattr(terms, part)
    return torch.from_numpy(rows if wide else rows.astype(np.float32))


def _fake(x: Tensor, _scale: Tensor, _zero: Tensor, arithmetic: str, part: str) -> Tensor:
    del part
    terms = terms_for(Arithmetic.parse(arithmetic))
    assert terms is not None
    dtype = torch.float64 if x.dtype == torch.float64 else torch.float32
    return x.new_empty((terms.count, *x.shape), dtype=dtype)


_library.impl("slopes", _slopes, "CompositeExplicitAutograd")
register_fake("dovetail::slopes", _fake, lib=_library)
register_vmap("dovetail::slopes", one_by_one("slopes"), lib=_library)
