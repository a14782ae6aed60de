"""The same results sooner: pieces that a cache holds, and tables of everything 16 bits can say."""

from __future__ import annotations

from collections.abc import Callable

import torch
from torch import Tensor

from dovetail._eager import is_eager

__all__ = ["MANY", "NARROW", "every_value", "is_plain", "look_up", "row_by_row"]

#: The dtypes that have 2**16 values.
NARROW = (torch.float16, torch.bfloat16)

#: From so many elements on, looking them up pays for a table.
MANY = 4096

#: So many float64 numbers, and some intermediate results, stay in a core's second-level cache.
_AT_ONCE = 1 << 14


def is_plain(x: Tensor) -> bool:
    """Whether nobody traces, transforms, or asks for a gradient with respect to ``x``.

    >>> is_plain(torch.ones(2)), is_plain(torch.ones(2, requires_grad=True))
    (True, False)
    """
    return is_eager() and not (x.requires_grad and torch.is_grad_enabled())


def row_by_row(function: Callable[[Tensor], Tensor], x: Tensor) -> Tensor:
    """``function(x)``, a function of the rows of ``x [rows, n]`` that keeps shape and dtype.

    >>> row_by_row(torch.neg, torch.ones(1, 2))
    tensor([[-1., -1.]])
    """
    rows = max(1, _AT_ONCE // max(1, x.shape[-1]))
    if x.shape[0] <= rows or not is_plain(x):
        return function(x)
    y = torch.empty_like(x)
    for part, result in zip(x.split(rows), y.split(rows), strict=True):
        result.copy_(function(part))
    return y


def every_value(dtype: torch.dtype, device: torch.device) -> Tensor:
    """Every value of a narrow dtype, in the order of the patterns.

    >>> every_value(torch.float16, torch.device("cpu"))[0x3C00].item()
    1.0
    """
    patterns = torch.arange(1 << 16, dtype=torch.int32, device=device).to(torch.int16)
    return patterns.view(dtype)


def look_up(table: Tensor, x: Tensor) -> Tensor:
    """The entries of a table over :func:`every_value`, for values of a narrow dtype.

    >>> table = -every_value(torch.float16, torch.device("cpu"))
    >>> look_up(table, torch.tensor([2.0], dtype=torch.float16))
    tensor([-2.], dtype=torch.float16)
    """
    place = x.contiguous().view(torch.int16).to(torch.int32).bitwise_and_(0xFFFF)
    return table.index_select(0, place.flatten()).view(x.shape)
