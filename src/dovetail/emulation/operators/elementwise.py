"""Elementwise operations on two tensors; one with a number is none of them."""

from __future__ import annotations

import operator
from collections.abc import Callable
from typing import Any

import torch
from torch import Tensor, nn

from dovetail.emulation.operators.base import Operator, family

__all__ = ["MODULES", "OPERATORS"]


def _binary(
    kind: str, function: Callable[..., Any], attributes: tuple[str, ...], *aliases: Any
) -> dict[Any, Operator]:
    """``attributes`` are what torch's own function takes besides; any but its default is not read.

    An augmented assignment arrives as the in-place method, in an exported model as ``operator``'s.
    """
    return family(
        kind,
        function,
        [getattr(torch, kind), getattr(Tensor, kind), getattr(operator, _WORDS[kind]), *aliases],
        slots=("input", "other"),
        attributes=attributes,
        inplace=[getattr(Tensor, kind + "_"), getattr(operator, "i" + _WORDS[kind])],
        aten=[kind],
    )


def _add(input: Tensor, other: Tensor, alpha: float = 1) -> Tensor:
    return torch.add(input, other, alpha=alpha)


def _sub(input: Tensor, other: Tensor, alpha: float = 1) -> Tensor:
    return torch.sub(input, other, alpha=alpha)


_WORDS = {"add": "add", "sub": "sub", "mul": "mul", "div": "truediv"}

OPERATORS: dict[Any, Operator] = {
    **_binary("add", _add, ("alpha",)),
    **_binary("sub", _sub, ("alpha",), torch.subtract, Tensor.subtract),
    **_binary("mul", torch.mul, (), torch.multiply, Tensor.multiply),
    **_binary(
        "div",
        torch.div,
        ("rounding_mode",),
        torch.divide,
        Tensor.divide,
        torch.true_divide,
        Tensor.true_divide,
    ),
}

#: No module exists for one of these.
MODULES: dict[type[nn.Module], str] = {}
