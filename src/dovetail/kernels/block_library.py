"""The ``torch.library`` ops of products of block formats.

``dovetail::block_linear``, ``dovetail::block_conv`` and ``dovetail::block_matmul``; as with the
other ops the arithmetic travels as text. A convolution's padding is flat: low, high, low, high, ...
"""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

import torch
from torch import Tensor
from torch.library import Library, register_autograd, register_fake, register_vmap

from dovetail.arithmetic import Arithmetic
from dovetail.kernels import block, block_gradients
from dovetail.kernels.batching import one_by_one
from dovetail.kernels.geometry import LINEAR, Geometry
from dovetail.kernels.library import conv_geometry, owned

__all__ = ["block_conv", "block_linear", "block_matmul"]

_library = Library("dovetail", "FRAGMENT")
_library.define("block_linear(Tensor x, Tensor weight, Tensor? bias, str arithmetic) -> Tensor")
_library.define(
    "block_conv(Tensor x, Tensor weight, Tensor? bias, int[] stride, int[] padding, "
    "int[] dilation, int groups, str arithmetic) -> Tensor"
)
_library.define("block_matmul(Tensor x, Tensor weight, str arithmetic) -> Tensor")


def _linear_impl(x: Tensor, weight: Tensor, bias: Tensor | None, arithmetic: str) -> Tensor:
    rule = Arithmetic.parse(arithmetic)
    return owned(block.emulate(x, weight, bias, rule.input, rule.weight, LINEAR, rule.acc))


def _conv_impl(
    x: Tensor,
    weight: Tensor,
    bias: Tensor | None,
    stride: Sequence[int],
    padding: Sequence[int],
    dilation: Sequence[int],
    groups: int,
    arithmetic: str,
) -> Tensor:
    rule = Arithmetic.parse(arithmetic)
    geometry = conv_geometry(stride, padding, dilation, groups)
    return owned(block.emulate(x, weight, bias, rule.input, rule.weight, geometry, rule.acc))


def _matmul_impl(x: Tensor, weight: Tensor, arithmetic: str) -> Tensor:
    rule = Arithmetic.parse(arithmetic)
    return owned(block.matmul(x, weight, rule.input, rule.weight, rule.acc))


def _linear_fake(x: Tensor, weight: Tensor, *_: Any) -> Tensor:
    return x.new_empty(*x.shape[:-1], weight.shape[0])


def _conv_fake(x: Tensor, weight: Tensor, _bias: Any, *window: Any) -> Tensor:
    spatial = conv_geometry(*window[:4]).out_size(x.shape[2:], weight.shape[2:])
    return x.new_empty(x.shape[0], weight.shape[0], *spatial)


def _matmul_fake(x: Tensor, weight: Tensor, _arithmetic: str) -> Tensor:
    batch = torch.broadcast_shapes(x.shape[:-2], weight.shape[:-2])
    return x.new_empty(*batch, x.shape[-2], weight.shape[-1])


def _save(ctx: Any, inputs: tuple[Any, ...], output: Tensor) -> None:
    del output
    x, weight, *rest = inputs
    ctx.settings = [v for v in rest if not isinstance(v, Tensor)]
    ctx.save_for_backward(x, weight, *[v for v in rest if isinstance(v, Tensor)])


def _with_bias(ctx: Any, grad: Tensor, gradients: Any, geometry: Geometry) -> tuple[Any, ...]:
    x, weight, *bias = ctx.saved_tensors
    rule = Arithmetic.parse(ctx.settings[-1])
    added = bias[0] if bias else None
    return tuple(gradients(grad, x, weight, added, rule, geometry, ctx.needs_input_grad[:3]))


def _linear_backward(ctx: Any, grad: Tensor) -> tuple[Any, ...]:
    return (*_with_bias(ctx, grad, block_gradients.linear, LINEAR), None)


def _conv_backward(ctx: Any, grad: Tensor) -> tuple[Any, ...]:
    geometry = conv_geometry(*ctx.settings[-5:-1])
    return (*_with_bias(ctx, grad, block_gradients.conv, geometry), *[None] * 5)


def _matmul_backward(ctx: Any, grad: Tensor) -> tuple[Any, ...]:
    rule = Arithmetic.parse(ctx.settings[-1])
    x, weight = ctx.saved_tensors
    return (*block_gradients.matmul(grad, x, weight, rule, ctx.needs_input_grad[:2]), None)


for _name, _impl, _fake, _backward in (
    ("block_linear", _linear_impl, _linear_fake, _linear_backward),
    ("block_conv", _conv_impl, _conv_fake, _conv_backward),
    ("block_matmul", _matmul_impl, _matmul_fake, _matmul_backward),
):
    _library.impl(_name, _impl, "CompositeExplicitAutograd")
    register_fake(f"dovetail::{_name}", _fake, lib=_library)
    register_autograd(f"dovetail::{_name}", _backward, setup_context=_save, lib=_library)
    register_vmap(f"dovetail::{_name}", one_by_one(_name), lib=_library)

block_linear = torch.ops.dovetail.block_linear
block_conv = torch.ops.dovetail.block_conv
block_matmul = torch.ops.dovetail.block_matmul
