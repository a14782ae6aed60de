"""Reductions over axes, which newer opsets give as an input."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from typing import Any

import torch
from torch import Tensor

from dovetail.compiler.onnx.operators.widened import widened
from dovetail.compiler.onnx.registry import operator

Axes = Sequence[int] | None
_Reduction = Callable[[Tensor, list[int], bool], Tensor]


def _sum(x: Tensor, axes: list[int], keep: bool) -> Tensor:
    return torch.sum(x, axes, keep, dtype=x.dtype)


def _mean(x: Tensor, axes: list[int], keep: bool) -> Tensor:
    if x.is_floating_point():
        return torch.mean(x, axes, keep)
    return torch.mean(x.double(), axes, keep).to(x.dtype)


def _prod(x: Tensor, axes: list[int], keep: bool) -> Tensor:
    for axis in sorted((axis % x.dim() for axis in axes), reverse=True):
        x = torch.prod(x, axis, keep, dtype=x.dtype)
    return x


def _extreme(function: Callable[..., Tensor], empty: Callable[[torch.dtype], Any]) -> _Reduction:
    def reduced(x: Tensor, axes: list[int], keep: bool) -> Tensor:
        if x.dtype == torch.bool:
            return reduced(x.to(torch.uint8), axes, keep).bool()
        if x.numel():
            return function(x, axes, keep)
        shape = [1 if d in [a % x.dim() for a in axes] else n for d, n in enumerate(x.shape)]
        full = x.new_full(shape, empty(x.dtype))
        return full if keep else full.squeeze([a % x.dim() for a in axes])

    return reduced


def _lowest(dtype: torch.dtype) -> Any:
    return -torch.inf if dtype.is_floating_point else torch.iinfo(dtype).min


def _highest(dtype: torch.dtype) -> Any:
    return torch.inf if dtype.is_floating_point else torch.iinfo(dtype).max


def _log(x: Tensor, axes: list[int], keep: bool) -> Tensor:
    return torch.log(_sum(x, axes, keep))


def _l1(x: Tensor, axes: list[int], keep: bool) -> Tensor:
    return _sum(torch.abs(x), axes, keep)


def _square(x: Tensor, axes: list[int], keep: bool) -> Tensor:
    return _sum(x * x, axes, keep)


def _l2(x: Tensor, axes: list[int], keep: bool) -> Tensor:
    return torch.sqrt(_square(x, axes, keep)).to(x.dtype)


_REDUCTIONS: dict[str, _Reduction] = {
    "ReduceSum": _sum,
    "ReduceMean": _mean,
    "ReduceProd": _prod,
    "ReduceMax": _extreme(torch.amax, _lowest),
    "ReduceMin": _extreme(torch.amin, _highest),
    "ReduceL1": _l1,
    "ReduceL2": _l2,
    "ReduceLogSum": _log,
    "ReduceLogSumExp": torch.logsumexp,
    "ReduceSumSquare": _square,
}


def _register(name: str, function: _Reduction) -> None:
    wide = widened(function)

    def reduced(
        x: Tensor, axes: Axes = None, *, keepdims: int = 1, noop_with_empty_axes: int = 0
    ) -> Tensor:
        if not axes and noop_with_empty_axes:
            # No axis is reduced; what is done to single elements still is.
            return wide(x.unsqueeze(0), [0], False)
        chosen = list(axes) if axes else list(range(x.dim()))
        return wide(x, chosen, bool(keepdims)) if x.dim() else wide(x.unsqueeze(0), [0], False)

    def by_attribute(x: Tensor, *, axes: Axes = None, keepdims: int = 1) -> Tensor:
        return reduced(x, axes, keepdims=keepdims)

    operator(name)(by_attribute)
    operator(name, 13 if name == "ReduceSum" else 18, static=(1,))(reduced)


for _name, _function in _REDUCTIONS.items():
    _register(_name, _function)


@operator("ArgMax")
def argmax(x: Tensor, *, axis: int = 0, keepdims: int = 1, select_last_index: int = 0) -> Tensor:
    """The first of the largest, or the last."""
    return _arg(torch.argmax, x, axis, keepdims, select_last_index)


@operator("ArgMin")
def argmin(x: Tensor, *, axis: int = 0, keepdims: int = 1, select_last_index: int = 0) -> Tensor:
    """The first of the smallest, or the last."""
    return _arg(torch.argmin, x, axis, keepdims, select_last_index)


def _arg(function: Callable[..., Tensor], x: Tensor, axis: int, keepdims: int, last: int) -> Tensor:
    if not last:
        return function(x, axis, bool(keepdims))
    return x.shape[axis] - 1 - function(x.flip(axis), axis, bool(keepdims))


@operator("CumSum", 11, static=(1,))
@widened
def cumsum(x: Tensor, axis: int, *, exclusive: int = 0, reverse: int = 0) -> Tensor:
    """Up to each element, or before it; from either end."""
    return _running(torch.cumsum, 0, x, axis, exclusive, reverse)


@operator("CumProd", 26, static=(1,))
@widened
def cumprod(x: Tensor, axis: int, *, exclusive: int = 0, reverse: int = 0) -> Tensor:
    """Up to each element, or before it; from either end."""
    return _running(torch.cumprod, 1, x, axis, exclusive, reverse)


def _running(
    function: Callable[..., Tensor], first: int, x: Tensor, axis: Any, exclusive: int, reverse: int
) -> Tensor:
    axis = axis[0] if isinstance(axis, list) else axis
    x = x.flip(axis) if reverse else x
    if exclusive:
        start = torch.full_like(x.narrow(axis, 0, 1), first)
        x = torch.cat([start, x.narrow(axis, 0, x.shape[axis] - 1)], axis)
    result = function(x, axis, dtype=x.dtype)
    return result.flip(axis) if reverse else result


@operator("TopK", 10, static=(1,))
@widened
def topk(
    x: Tensor, k: Any, *, axis: int = -1, largest: int = 1, sorted: int = 1
) -> tuple[Tensor, Tensor]:
    """Equal ones in the order of their places."""
    count = k[0] if isinstance(k, list) else k
    values, places = torch.sort(x, dim=axis, descending=bool(largest), stable=True)
    return values.narrow(axis, 0, count), places.narrow(axis, 0, count)
