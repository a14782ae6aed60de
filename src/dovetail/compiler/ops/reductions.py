"""Sums, means, variances and extremes over dimensions."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

from dovetail.compiler.groups.layout import Dim, total
from dovetail.compiler.ops.builder import Builder, Value
from dovetail.compiler.ops.pointwise import like_result
from dovetail.compiler.ops.scalars import computed_in
from dovetail.compiler.ops.table import lowers


def _dims(value: Value, dims: Any) -> tuple[int, ...]:
    rank = len(value.shape)
    if dims is None or (isinstance(dims, Sequence) and not dims):
        return tuple(range(rank))
    chosen = [dims] if isinstance(dims, int) else dims
    return tuple(sorted(d % rank for d in chosen)) if rank else ()


def _finish(b: Builder, value: Value, dims: Sequence[int], keepdim: bool) -> Value:
    return value if keepdim else b.relayout(value, b.layout_of(value).squeeze(dims))


def _count(value: Value, dims: Sequence[int]) -> Dim:
    return total([value.shape[d] for d in dims])


def _scaled(b: Builder, value: Value, count: Dim) -> Value:
    """``value`` divided by a number of elements."""
    return b.elementwise("({0} / {1})", [value, count or float("nan")], value.shape, value.dtype)


@lowers("sum.dim_IntList", "sum.default")
def sum_(b: Builder, x: Value, dim: Any = None, keepdim: bool = False, **_: Any) -> Value:
    """The sum; of booleans and integers as int64."""
    dims = _dims(x, dim)
    return _finish(b, b.reduce("sum", x, dims, b.result.dtype), dims, keepdim)


@lowers("mean.dim", "mean.default")
def mean(b: Builder, x: Value, dim: Any = None, keepdim: bool = False, **_: Any) -> Value:
    """The sum divided by the number of elements."""
    dims, dtype = _dims(x, dim), b.result.dtype
    made = b.reduce("sum", x, dims, computed_in(dtype))
    return _finish(b, b.cast(_scaled(b, made, _count(x, dims)), dtype), dims, keepdim)


@lowers("prod.default", "prod.dim_int")
def prod(b: Builder, x: Value, dim: Any = None, keepdim: bool = False, **_: Any) -> Value:
    """The product."""
    dims = _dims(x, dim)
    return _finish(b, b.reduce("prod", x, dims, b.result.dtype), dims, keepdim)


@lowers("amax.default", "max.default", "any.default", "any.dim", "any.dims")
def amax(b: Builder, x: Value, dim: Any = None, keepdim: bool = False) -> Value:
    """The largest element, or NaN where there is one; of booleans, whether any holds."""
    dims = _dims(x, dim)
    return _finish(b, b.reduce("max", x, dims, b.result.dtype), dims, keepdim)


@lowers("amin.default", "min.default", "all.default", "all.dim", "all.dims")
def amin(b: Builder, x: Value, dim: Any = None, keepdim: bool = False) -> Value:
    """The smallest element, or NaN where there is one; of booleans, whether all hold."""
    dims = _dims(x, dim)
    return _finish(b, b.reduce("min", x, dims, b.result.dtype), dims, keepdim)


def _moments(b: Builder, x: Value, dims: Sequence[int], correction: Any) -> tuple[Value, Value]:
    """Variance and mean, in two passes; the reduced dimensions stay as ones."""
    count, dtype = _count(x, dims), computed_in(x.dtype)
    middle = _scaled(b, b.reduce("sum", x, dims, dtype), count)
    away = b.elementwise("({0} - {1})", [x, middle], x.shape, dtype)
    squares = b.elementwise("({0} * {0})", [away], x.shape, dtype)
    divisor = count - (1 if correction is None else correction)
    if isinstance(divisor, (int, float)):
        divisor = max(divisor, 0)
    made = _scaled(b, b.reduce("sum", squares, dims, dtype), divisor)
    return b.cast(made, x.dtype), b.cast(middle, x.dtype)


@lowers("var_mean.correction")
def var_mean(
    b: Builder, x: Value, dim: Any = None, *, correction: Any = None, keepdim: bool = False
) -> tuple[Value, Value]:
    """Variance and mean."""
    dims = _dims(x, dim)
    made = _moments(b, x, dims, correction)
    return _finish(b, made[0], dims, keepdim), _finish(b, made[1], dims, keepdim)


@lowers("var.correction")
def var(
    b: Builder, x: Value, dim: Any = None, *, correction: Any = None, keepdim: bool = False
) -> Value:
    """The variance."""
    dims = _dims(x, dim)
    return _finish(b, _moments(b, x, dims, correction)[0], dims, keepdim)


@lowers("_native_batch_norm_legit_no_training.default")
def batch_norm(
    b: Builder,
    x: Value,
    weight: Value | None,
    bias: Value | None,
    mean_: Value,
    variance: Value,
    momentum: float,
    eps: float,
) -> tuple[Value, None, None]:
    """Batch norm by running statistics, as ATen computes it: one scale and shift a channel."""
    del momentum
    dtype = computed_in(x.dtype)
    (channels,) = mean_.shape
    scale = b.elementwise("(1 / dv_sqrt({0} + {1}))", [variance, eps], (channels,), dtype)
    if weight is not None:
        scale = b.elementwise("({0} * {1})", [scale, weight], (channels,), dtype)
    shift = b.elementwise(
        "({0} - {1} * {2})", [0.0 if bias is None else bias, mean_, scale], (channels,), dtype
    )
    row = (1, channels, *[1] * (len(x.shape) - 2))
    made = b.elementwise(
        "({0} * {1} + {2})",
        [x, b.reshape(scale, row), b.reshape(shift, row)],
        x.shape,
        x.dtype,
        layout=like_result(b),
        flops=2,
    )
    return made, None, None
