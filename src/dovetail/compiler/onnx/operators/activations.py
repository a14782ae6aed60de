"""Activation functions, through torch's own where there is one."""

from __future__ import annotations

import math

import torch
import torch.nn.functional as F
from torch import Tensor

from dovetail.compiler.onnx.operators.widened import widened
from dovetail.compiler.onnx.registry import operator

operator("Relu")(F.relu)
operator("Sigmoid")(torch.sigmoid)
operator("Tanh")(torch.tanh)
operator("Softplus")(F.softplus)
operator("Softsign")(F.softsign)
operator("HardSwish", 14)(F.hardswish)
operator("Mish", 18)(F.mish)


@operator("Clip", 6)
def clip6(x: Tensor, *, min: float = -3.402823466e38, max: float = 3.402823466e38) -> Tensor:
    """Bounds that are attributes."""
    return clip(x, min, max)


@operator("Clip", 11, static=(1, 2))
@widened
def clip(x: Tensor, low: float | None = None, high: float | None = None) -> Tensor:
    """Between two numbers; the upper one where they are out of order."""
    if low is None and high is None:
        return x
    if not x.is_floating_point() or low is None or high is None or low > high:
        return torch.clamp(x, low, high)
    return F.relu6(x) if (low, high) == (0, 6) else F.hardtanh(x, low, high)


@operator("Elu")
def elu(x: Tensor, *, alpha: float = 1.0) -> Tensor:
    """``alpha (exp(x) - 1)`` below 0."""
    return F.elu(x, alpha)


@operator("Celu", 12)
def celu(x: Tensor, *, alpha: float = 1.0) -> Tensor:
    """``max(0, x) + min(0, alpha (exp(x / alpha) - 1))``."""
    return F.celu(x, alpha)


@operator("Selu")
def selu(x: Tensor, *, alpha: float = 1.67326319, gamma: float = 1.05070102) -> Tensor:
    """Torch's own for the usual constants."""
    if math.isclose(alpha, 1.67326319, rel_tol=1e-6) and math.isclose(
        gamma, 1.05070102, rel_tol=1e-6
    ):
        return F.selu(x)
    return gamma * F.elu(x, alpha)


@operator("LeakyRelu")
def leaky_relu(x: Tensor, *, alpha: float = 0.01) -> Tensor:
    """``alpha x`` below 0."""
    return F.leaky_relu(x, alpha)


@operator("PRelu", 7, weights=(1,))
def prelu(x: Tensor, slope: Tensor) -> Tensor:
    """Slopes that broadcast to the input; those of channels are torch's own."""
    flat = slope.reshape(-1)
    channels = x.shape[1] if x.dim() > 1 else 1
    along = slope.dim() == x.dim() - 1 and slope.dim() > 0 and slope.shape[0] == channels
    if x.is_floating_point() and (flat.numel() == 1 or (along and flat.numel() == channels)):
        return F.prelu(x, flat)
    return torch.where(x < 0, x * slope, x)


@operator("ThresholdedRelu", 10)
def thresholded_relu(x: Tensor, *, alpha: float = 1.0) -> Tensor:
    """0 up to ``alpha``."""
    return F.threshold(x, alpha, 0.0)


@operator("HardSigmoid")
def hard_sigmoid(x: Tensor, *, alpha: float = 0.2, beta: float = 0.5) -> Tensor:
    """``alpha x + beta`` between 0 and 1; torch's own has the slope 1/6."""
    if math.isclose(alpha, 1 / 6, rel_tol=1e-6) and beta == 0.5:
        return F.hardsigmoid(x)
    return torch.clamp(alpha * x + beta, 0, 1)


@operator("Gelu", 20)
def gelu(x: Tensor, *, approximate: str = "none") -> Tensor:
    """Exact, or by ``tanh``."""
    return F.gelu(x, approximate=approximate)


@operator("Swish", 24)
def swish(x: Tensor, *, alpha: float = 1.0) -> Tensor:
    """``x sigmoid(alpha x)``."""
    return F.silu(x) if alpha == 1 else x * torch.sigmoid(alpha * x)


@operator("Shrink", 9)
def shrink(x: Tensor, *, bias: float = 0.0, lambd: float = 0.5) -> Tensor:
    """Nearer to 0 by ``bias``; 0 within ``lambd`` of it."""
    zero = torch.zeros_like(x)
    moved = torch.where(x > lambd, x - bias, zero)
    return torch.where(x < -lambd, x + bias, moved).to(x.dtype)


@operator("Softmax")
def softmax1(x: Tensor, *, axis: int = 1) -> Tensor:
    """Over all axes from ``axis`` on, as one."""
    return _flat(F.softmax, x, axis)


@operator("Softmax", 13)
def softmax(x: Tensor, *, axis: int = -1) -> Tensor:
    """Along one axis."""
    return F.softmax(x, axis)


@operator("LogSoftmax")
def log_softmax1(x: Tensor, *, axis: int = 1) -> Tensor:
    """Over all axes from ``axis`` on, as one."""
    return _flat(F.log_softmax, x, axis)


@operator("LogSoftmax", 13)
def log_softmax(x: Tensor, *, axis: int = -1) -> Tensor:
    """Along one axis."""
    return F.log_softmax(x, axis)


@operator("Hardmax")
def hardmax1(x: Tensor, *, axis: int = 1) -> Tensor:
    """Over all axes from ``axis`` on, as one."""
    return _flat(_one_at_largest, x, axis)


@operator("Hardmax", 13)
def hardmax(x: Tensor, *, axis: int = -1) -> Tensor:
    """1 at the first of the largest along an axis."""
    return _one_at_largest(x, axis)


def _one_at_largest(x: Tensor, axis: int) -> Tensor:
    at = x.argmax(axis, keepdim=True)
    return torch.zeros_like(x).scatter(axis, at, 1)


def _flat(function: object, x: Tensor, axis: int) -> Tensor:
    """A function of one axis on what follows ``axis``."""
    axis %= max(x.dim(), 1)
    if axis == x.dim() - 1:
        return function(x, axis)  # type: ignore[operator,no-any-return]
    return function(x.flatten(axis), axis).reshape(x.shape)  # type: ignore[operator,no-any-return]
