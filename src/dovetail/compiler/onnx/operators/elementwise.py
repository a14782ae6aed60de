"""Arithmetic of single elements."""

from __future__ import annotations

from collections.abc import Callable
from functools import reduce
from typing import Any

import torch
from torch import Tensor

from dovetail.compiler.onnx.operators.widened import widened
from dovetail.compiler.onnx.registry import operator

_UNARY: dict[str, Callable[..., Any]] = {
    "Abs": torch.abs,
    "Acos": torch.acos,
    "Acosh": torch.acosh,
    "Asin": torch.asin,
    "Asinh": torch.asinh,
    "Atan": torch.atan,
    "Atanh": torch.atanh,
    "Ceil": torch.ceil,
    "Cos": torch.cos,
    "Cosh": torch.cosh,
    "Erf": torch.erf,
    "Exp": torch.exp,
    "Floor": torch.floor,
    "Log": torch.log,
    "Neg": torch.neg,
    "Reciprocal": torch.reciprocal,
    "Round": torch.round,
    "Sin": torch.sin,
    "Sinh": torch.sinh,
    "Sqrt": torch.sqrt,
    "Tan": torch.tan,
}
_BINARY: dict[str, Callable[..., Any]] = {"Add": torch.add, "Sub": torch.sub, "Mul": torch.mul}

for _name, _function in (_UNARY | _BINARY).items():
    operator(_name)(widened(_function))


@operator("Div")
@widened
def div(a: Tensor, b: Tensor) -> Tensor:
    """Integers are divided towards zero."""
    exact = a.is_floating_point() or a.is_complex()
    return torch.div(a, b) if exact else torch.div(a, b, rounding_mode="trunc")


@operator("Mod", 10)
@widened
def mod(a: Tensor, b: Tensor, *, fmod: int = 0) -> Tensor:
    """The sign is the divisor's, with ``fmod`` the dividend's."""
    return torch.fmod(a, b) if fmod else torch.remainder(a, b)


@operator("Pow")
@widened
def power(base: Tensor, exponent: Tensor) -> Tensor:
    """Of the base's type, whatever the exponent's."""
    return torch.pow(base, exponent).to(base.dtype)


@operator("Sign", 9)
@widened
def sign(x: Tensor) -> Tensor:
    """NaN stays."""
    return torch.where(x.isnan(), x, torch.sign(x)) if x.is_floating_point() else torch.sign(x)


@operator("Sum", 8)
@widened
def sum_(*inputs: Tensor) -> Tensor:
    """Of all inputs, broadcast."""
    return reduce(torch.add, inputs)


@operator("Mean", 8)
def mean(*inputs: Tensor) -> Tensor:
    """Of all inputs, broadcast."""
    return reduce(torch.add, inputs) / len(inputs)


@operator("Max", 8)
@widened
def maximum(*inputs: Tensor) -> Tensor:
    """Of all inputs, broadcast; NaN wins."""
    return reduce(torch.maximum, inputs)


@operator("Min", 8)
@widened
def minimum(*inputs: Tensor) -> Tensor:
    """Of all inputs, broadcast; NaN wins."""
    return reduce(torch.minimum, inputs)


@operator("Det", 11)
def det(x: Tensor) -> Tensor:
    """Of the last two axes."""
    found: Tensor = torch.linalg.det(x)
    return found


@operator("BitShift", 11)
@widened
def bit_shift(x: Tensor, by: Tensor, *, direction: str) -> Tensor:
    """To the LEFT or RIGHT."""
    return x << by if direction == "LEFT" else x >> by


_BITWISE: dict[str, Callable[..., Any]] = {
    "BitwiseAnd": torch.bitwise_and,
    "BitwiseOr": torch.bitwise_or,
    "BitwiseXor": torch.bitwise_xor,
    "BitwiseNot": torch.bitwise_not,
}
for _name, _function in _BITWISE.items():
    operator(_name, 18)(widened(_function))
