"""How far rounding alone takes eager's own results: the same computation in float64, and nearby.

Some results are nothing but rounding: the gradient of a bias that batch norm follows is zero.
Others jump: where an activation is next to the bend of a ReLU, its last place decides a gradient.
There compiled code is as right as eager where it is about as far from the computation in float64
as eager's own results are, on inputs and parameters that are moved by their last places.
"""

from __future__ import annotations

import copy
from collections.abc import Sequence
from typing import Any

import torch
from torch import Tensor, fx, nn
from torch.utils import _pytree as pytree

__all__ = ["MOVES", "as_near", "graph_in_float64", "in_float64", "moved"]

#: How many times eager's distance from float64 is still rounding.
NEAR = 10
#: How many times inputs are moved: at a bend about every third run of a deep network jumps.
MOVES = 8
_NARROW = (torch.float32, torch.float16, torch.bfloat16)
_TROUBLE = (RuntimeError, TypeError, ValueError, NotImplementedError)


def as_near(mine: Any, others: Sequence[Tensor], exact: Any, most: float = float("inf")) -> bool:
    """Whether ``mine`` is about as near to ``exact`` as some of eager's results ``others`` are.

    What is further from it than ``most`` is wrong, however far eager may be.

    >>> one = torch.ones(1, dtype=torch.float64)
    >>> as_near(one.float() + 2e-7, [one.float() - 1e-7], one), as_near(one + 1, [one], one)
    (True, False)
    >>> as_near(one + 1, [one - 1], one), as_near(one + 1, [one - 1], one, most=0.1)
    (True, False)
    """
    if not (isinstance(mine, Tensor) and isinstance(exact, Tensor)):
        return False
    if mine.shape != exact.shape or mine.dtype != others[0].dtype:
        return False
    ours, *theirs = (float((x.double() - exact).detach().abs().max()) for x in (mine, *others))
    return ours <= min(NEAR * max(theirs), most) < float("inf")


def in_float64(value: Any) -> Any:
    """``value``, a module, a tensor or a structure of them, as a copy in float64."""
    if isinstance(value, nn.Module):
        return copy.deepcopy(value).double()
    return pytree.tree_map(_wide, value)


def moved(value: Any, seed: int) -> Any:
    """``value``, a module, a tensor or a structure of them, its floats moved by their last places.

    >>> float(moved(torch.ones(1), 0)) - 1 < 2**-22
    True
    """
    drawn = torch.Generator().manual_seed(seed)

    def move(x: Any) -> Any:
        if not isinstance(x, Tensor) or not x.is_floating_point():
            return x
        noise = torch.rand(x.shape, generator=drawn, dtype=torch.float64).to(x.device) * 2 - 1
        near = (x.detach().double() * (1 + torch.finfo(x.dtype).eps * noise)).to(x.dtype)
        return near.requires_grad_(x.requires_grad)

    if not isinstance(value, nn.Module):
        return pytree.tree_map(move, value)
    made = copy.deepcopy(value)
    with torch.no_grad():
        for parameter in made.parameters():
            parameter.copy_(move(parameter))
    return made


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
