"""Unsigned types that torch holds but does not compute with."""

from __future__ import annotations

import functools
from collections.abc import Callable
from typing import Any, ParamSpec, TypeVar

import torch
from torch import Tensor

__all__ = ["widened"]

_P = ParamSpec("_P")
_R = TypeVar("_R")
_HELD = frozenset({torch.uint16, torch.uint32, torch.uint64})


def widened(function: Callable[_P, _R]) -> Callable[_P, _R]:
    """The function, computed in int64 for uint16, uint32 and uint64.

    Exact for the first two. Of uint64 it is so modulo 2**64; what depends on order (a quotient, a
    comparison) holds below 2**63.

    >>> widened(torch.add)(torch.tensor([65535], dtype=torch.uint16), torch.tensor([2]))
    tensor([1], dtype=torch.uint16)
    """

    plain: Callable[..., Any] = function

    @functools.wraps(function)
    def call(*inputs: _P.args, **options: _P.kwargs) -> Any:
        held = [x.dtype for x in inputs if isinstance(x, Tensor) and x.dtype in _HELD]
        if not held:
            return plain(*inputs, **options)
        wide = [x.long() if isinstance(x, Tensor) and x.dtype in _HELD else x for x in inputs]
        result = plain(*wide, **options)
        if isinstance(result, tuple):
            return (_narrowed(result[0], held[0]), *result[1:])
        return _narrowed(result, held[0])

    return call


def _narrowed(result: Any, dtype: torch.dtype) -> Any:
    return result.to(dtype) if result.dtype == torch.int64 else result
