"""Quantised tensors: codes, their scales and zero points."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

import torch
from torch import Tensor

from dovetail.compiler.onnx.operators.casting import cast_to
from dovetail.compiler.onnx.operators.convolution import integer_conv
from dovetail.compiler.onnx.registry import operator
from dovetail.compiler.onnx.types import dtype_of, element_type, limits

Ints = Sequence[int] | None


def _along(value: Tensor, x: Tensor, axis: int, block: int) -> Tensor:
    """A scale or zero point where each element of ``x`` is: one, one a slice, or one a block."""
    if value.numel() == 1 and value.dim() <= 1:
        return value.reshape(())
    axis = axis % x.dim() if x.dim() else 0
    if value.dim() <= 1:
        return value.reshape([-1 if d == axis else 1 for d in range(x.dim())])
    size = block or -(-x.shape[axis] // value.shape[axis])
    return value.repeat_interleave(size, axis).narrow(axis, 0, x.shape[axis])


def _codes(value: Tensor) -> Tensor:
    """Codes as numbers to compute with: int32, or float32 for floating ones."""
    return value.float() if value.is_floating_point() else value.to(torch.int32)


@operator("QuantizeLinear", 10, fixed=(1, 2))
def quantize(
    x: Tensor,
    scale: Tensor,
    zero: Tensor | None = None,
    *,
    axis: int = 1,
    block_size: int = 0,
    output_dtype: int = 0,
    precision: int = 0,
    saturate: int = 1,
    node: Any,
) -> Tensor:
    """``saturate(round(x / scale) + zero)``, ties to even; narrow floats are cast."""
    to = output_dtype or (2 if zero is None else _type_of(zero, node))
    wide = dtype_of(precision) if precision else torch.promote_types(x.dtype, scale.dtype)
    ratio = x.to(wide) / _along(scale, x, axis, block_size).to(wide)
    range_ = limits(to)
    if range_ is None:
        return cast_to(ratio.float(), to, bool(saturate))
    codes = torch.round(ratio.float() if wide != torch.float64 else ratio)
    if zero is not None:
        codes = codes + _codes(_along(zero, x, axis, block_size))
    return codes.clamp(*range_).to(torch.int32).to(dtype_of(to))


def _type_of(zero: Tensor, node: Any) -> int:
    """The element type of a zero point; one of less than a byte the model's types say."""
    found: int = node.types.get(2, element_type(zero.dtype))
    return found


@operator("DequantizeLinear", 10, fixed=(1, 2), folds=False)
def dequantize(
    x: Tensor,
    scale: Tensor,
    zero: Tensor | None = None,
    *,
    axis: int = 1,
    block_size: int = 0,
    output_dtype: int = 0,
) -> Tensor:
    """``(x - zero) scale``, in the scale's type."""
    codes = _codes(x)
    if zero is not None:
        codes = codes - _codes(_along(zero, x, axis, block_size))
    wide = scale.dtype if scale.dtype in (torch.float32, torch.float64) else torch.float32
    y = codes.to(wide) * _along(scale, x, axis, block_size).to(wide)
    return y.to(dtype_of(output_dtype) if output_dtype else _result(scale.dtype))


def _result(dtype: torch.dtype) -> torch.dtype:
    return dtype if dtype.itemsize > 1 else torch.float32


@operator("DynamicQuantizeLinear", 11)
def dynamic_quantize(x: Tensor) -> tuple[Tensor, Tensor, Tensor]:
    """To uint8 over the range of this tensor, which always holds 0."""
    low, high = x.amin().clamp(max=0), x.amax().clamp(min=0)
    scale = (high - low) / 255
    scale = torch.where(scale == 0, torch.ones_like(scale), scale)
    zero = torch.round(-low / scale).clamp(0, 255)
    codes = (torch.round(x / scale) + zero).clamp(0, 255)
    return codes.to(torch.uint8), scale, zero.to(torch.uint8)


@operator("MatMulInteger", 10)
def matmul_integer(
    a: Tensor, b: Tensor, a_zero: Tensor | None = None, b_zero: Tensor | None = None
) -> Tensor:
    """Of codes less their zero points, in int32."""
    return _product(a, b, a_zero, b_zero).to(torch.int32)


def _product(a: Tensor, b: Tensor, a_zero: Tensor | None, b_zero: Tensor | None) -> Tensor:
    """Exact: products of bytes are summed in float64, which holds every int32."""
    left, right = a.double(), b.double()
    if a_zero is not None:
        rows = a_zero.double()
        left = left - (rows.unsqueeze(-1) if rows.dim() == 1 and rows.numel() > 1 else rows)
    if b_zero is not None:
        right = right - b_zero.double()
    return left @ right


def _requantised(total: Tensor, factor: Tensor, scale: Tensor, zero: Tensor) -> Tensor:
    """A sum of products in the output's codes."""
    codes = torch.round((total * factor.double() / scale.double()).float())
    codes = codes.double() + zero.double()
    facts = torch.iinfo(zero.dtype)
    return codes.clamp(facts.min, facts.max).to(torch.int32).to(zero.dtype)


@operator("QLinearMatMul", 10, fixed=(1, 2, 4, 5, 6, 7))
def qlinear_matmul(
    a: Tensor,
    a_scale: Tensor,
    a_zero: Tensor,
    b: Tensor,
    b_scale: Tensor,
    b_zero: Tensor,
    y_scale: Tensor,
    y_zero: Tensor,
) -> Tensor:
    """Codes to codes."""
    rows = a_scale.unsqueeze(-1) if a_scale.dim() == 1 and a_scale.numel() > 1 else a_scale
    total = _product(a, b, a_zero, b_zero)
    factor = rows.double() * b_scale.double()
    return _requantised(total, factor, y_scale, y_zero)


@operator("QLinearConv", 10, fixed=(1, 2, 4, 5, 6, 7))
def qlinear_conv(
    x: Tensor,
    x_scale: Tensor,
    x_zero: Tensor,
    weight: Tensor,
    weight_scale: Tensor,
    weight_zero: Tensor,
    y_scale: Tensor,
    y_zero: Tensor,
    bias: Tensor | None = None,
    *,
    auto_pad: str = "NOTSET",
    dilations: Ints = None,
    group: int = 1,
    kernel_shape: Ints = None,
    pads: Ints = None,
    strides: Ints = None,
) -> Tensor:
    """Codes to codes; the bias is in units of both scales."""
    total = integer_conv(
        x, weight, x_zero, weight_zero,
        auto_pad=auto_pad, dilations=dilations, group=group, pads=pads, strides=strides,
    ).double()  # fmt: skip
    channels = [-1] + [1] * (x.dim() - 2)
    if bias is not None:
        total = total + bias.double().reshape(channels)
    factor = x_scale.double() * weight_scale.double().reshape(channels)
    return _requantised(total, factor, y_scale, y_zero)
