"""Tensors of numbers: one value everywhere, or equal steps."""

from __future__ import annotations

from typing import Any

import torch

from dovetail.compiler.groups.model import Constant, Index
from dovetail.compiler.ops.builder import Builder, Value
from dovetail.compiler.ops.table import lowers


@lowers("full.default", "full_like.default", "new_full.default")
def full(b: Builder, _: Any, value: Any, *__: Any, **___: Any) -> Value:
    """One value everywhere."""
    return Constant(value, tuple(b.result.shape), b.result.dtype)


@lowers("scalar_tensor.default")
def scalar_tensor(b: Builder, value: Any, **_: Any) -> Value:
    """A number as a tensor."""
    return Constant(value, (), b.result.dtype)


@lowers(
    "zeros.default",
    "zeros_like.default",
    "new_zeros.default",
    "empty.memory_format",
    "empty_like.default",
    "new_empty.default",
    "new_empty_strided.default",
    "empty_strided.default",
)
def zeros(b: Builder, *_: Any, **__: Any) -> Value:
    """Zeros; what torch leaves undefined is zero too."""
    return Constant(0, tuple(b.result.shape), b.result.dtype)


@lowers("ones.default", "ones_like.default", "new_ones.default")
def ones(b: Builder, *_: Any, **__: Any) -> Value:
    """Ones."""
    return Constant(1, tuple(b.result.shape), b.result.dtype)


@lowers("arange.start_step", "arange.default", "arange.start", "prims.iota.default")
def arange(b: Builder, *arguments: Any, **given: Any) -> Value:
    """Numbers at equal steps."""
    (extent,) = b.result.shape
    dtype = b.result.dtype
    start = given.get("start", arguments[0] if len(arguments) > 1 and "start" not in given else 0)
    step = given.get("step", arguments[2] if len(arguments) > 2 else 1)
    index = Index((1,), 0)
    wide = torch.float64 if dtype.is_floating_point else torch.int64
    code = "({1} + {2} * {0})"
    made = b.elementwise(code, [index, start, step], (extent,), wide)
    return b.cast(made, dtype)
