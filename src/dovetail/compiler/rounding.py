"""How far rounding alone takes eager's own results: the same computation in float64.

Some results are nothing but rounding: the gradient of a bias that batch norm follows is zero, and
what batch norm makes of a constant image is noise times ``1 / sqrt(eps)``. There compiled code is
as right as eager where both are about as far from the same computation in float64.
"""

from __future__ import annotations

import copy
from collections.abc import Sequence
from typing import Any

import torch
from torch import Tensor, fx, nn
from torch.utils import _pytree as pytree

__all__ = ["as_near", "graph_in_float64", "in_float64"]

#: How many times eager's distance from float64 is still rounding.
NEAR = 10
_NARROW = (torch.float32, torch.float16, torch.bfloat16)
_TROUBLE = (RuntimeError, TypeError, ValueError, NotImplementedError)


def as_near(mine: Any, other: Tensor, exact: Any) -> bool:
    """Whether ``mine`` is about as near to ``exact`` as eager's ``other`` is.

    >>> one = torch.ones(1, dtype=torch.float64)
    >>> as_near(one.float() + 2e-7, one.float() - 1e-7, one), as_near(one + 1, one, one)
    (True, False)
    """
    if not (isinstance(mine, Tensor) and isinstance(exact, Tensor)):
        return False
    if not mine.shape == other.shape == exact.shape or mine.dtype != other.dtype:
        return False
    ours, theirs = (
        float((x.detach().double() - exact.detach()).abs().max()) for x in (mine, other)
    )
    return ours <= NEAR * theirs < float("inf")


def in_float64(value: Any) -> Any:
    """``value``, a module, a tensor or a structure of them, as a copy in float64."""
    if isinstance(value, nn.Module):
        return copy.deepcopy(value).double()
    return pytree.tree_map(_wide, value)


def graph_in_float64(graph: fx.GraphModule, inputs: Sequence[Any]) -> list[Any] | None:
    """The results of ``graph`` computed in float64, or None where an operator refuses that."""
    try:
        found = _Wide(graph).run(*in_float64(list(inputs)))
    except _TROUBLE:
        return None
    return list(found)


class _Wide(fx.Interpreter):
    """Runs a graph with every element type that it names widened."""

    def call_function(self, target: Any, args: Any, kwargs: Any) -> Any:
        return super().call_function(target, in_float64(args), in_float64(kwargs))


def _wide(value: Any) -> Any:
    if isinstance(value, torch.dtype):
        return torch.float64 if value in _NARROW else value
    if not isinstance(value, Tensor) or value.dtype not in _NARROW:
        return value
    return value.detach().double().requires_grad_(value.requires_grad)
