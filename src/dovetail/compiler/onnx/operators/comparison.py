"""Comparisons, and what is true of an element."""

from __future__ import annotations

from collections.abc import Callable

import torch
from torch import Tensor

from dovetail.compiler.onnx.operators.widened import widened
from dovetail.compiler.onnx.registry import operator

_COMPARISONS: dict[str, tuple[int, Callable[[Tensor, Tensor], Tensor]]] = {
    "Equal": (7, torch.eq),
    "Less": (7, torch.lt),
    "LessOrEqual": (12, torch.le),
    "Greater": (7, torch.gt),
    "GreaterOrEqual": (12, torch.ge),
}
for _name, (_since, _function) in _COMPARISONS.items():
    operator(_name, _since)(widened(_function))

for _name, _function in {
    "And": torch.logical_and,
    "Or": torch.logical_or,
    "Xor": torch.logical_xor,
}.items():
    operator(_name, 7)(_function)
operator("Not")(torch.logical_not)
operator("IsNaN", 9)(torch.isnan)


@operator("IsInf", 10)
def is_inf(x: Tensor, *, detect_negative: int = 1, detect_positive: int = 1) -> Tensor:
    """Of either sign, or of one."""
    if detect_negative and detect_positive:
        return torch.isinf(x)
    if detect_negative:
        return torch.isneginf(x)
    return torch.isposinf(x) if detect_positive else torch.zeros_like(x, dtype=torch.bool)


@operator("Where", 9)
@widened
def where(condition: Tensor, x: Tensor, y: Tensor) -> Tensor:
    """``x`` where the condition holds."""
    return torch.where(condition, x, y)
