"""The ``torch.library`` ops: what compile, export and autograd see of an emulated layer.

``dovetail::linear``, ``dovetail::conv`` and ``dovetail::matmul`` are one meaning each; the
arithmetic travels as text, so a graph that holds them can be saved and read by another process.
"""

from __future__ import annotations

from collections.abc import Callable, Sequence
from contextlib import AbstractContextManager, nullcontext
from typing import Any

import torch
from torch import Tensor
from torch.library import Library, register_autograd, register_fake, register_vmap

from dovetail.arithmetic import Arithmetic
from dovetail.kernels import gradients, layer
from dovetail.kernels.batching import one_by_one
from dovetail.kernels.geometry import LINEAR, Geometry
from dovetail.kernels.ranges import Range, operand_range

__all__ = [
    "computed_layer",
    "computed_matmul",
    "conv",
    "conv_geometry",
    "conv_window",
    "linear",
    "matmul",
    "matmul_backward",
    "needed",
    "save",
    "saved",
]

_RANGES = "Tensor? x_scale, Tensor? x_zero, Tensor? w_scale, Tensor? w_zero"
_library = Library("dovetail", "DEF")
_library.define(
    f"linear(Tensor x, Tensor weight, Tensor? bias, {_RANGES}, str arithmetic) -> Tensor"
)
_library.define(
    f"conv(Tensor x, Tensor weight, Tensor? bias, {_RANGES}, int[] stride, int[] padding, "
    "int[] dilation, int groups, str arithmetic) -> Tensor"
)
_library.define(f"matmul(Tensor x, Tensor weight, {_RANGES}, str arithmetic) -> Tensor")


def _range(scale: Tensor | None, zero: Tensor | None) -> Range | None:
    return None if scale is None or zero is None else (scale.detach(), zero)


def conv_geometry(
    stride: Sequence[int], padding: Sequence[int], dilation: Sequence[int], groups: int
) -> Geometry:
    """The geometry whose padding is written flat: low, high, low, high, ..."""
    pairs = tuple(zip(padding[::2], padding[1::2], strict=True))
    return Geometry(len(stride), tuple(stride), pairs, tuple(dilation), groups)


def conv_window(geometry: Geometry) -> tuple[list[int], list[int], list[int], int]:
    """Stride, padding, dilation and groups, as the ops take them."""
    padding = [p for pair in geometry.padding for p in pair]
    return list(geometry.stride), padding, list(geometry.dilation), geometry.groups


def _own_dtypes(x: Tensor) -> AbstractContextManager[Any]:
    """Autocast reaches into ops: it would round the codes that a realisation multiplies."""
    if torch._C._is_any_autocast_enabled():
        return torch.autocast(x.device.type, enabled=False)
    return nullcontext()


def owned(y: Tensor) -> Tensor:
    """``y``, not as a view: autograd lets nobody change a view that an op made, and users do."""
    return torch.ops.aten._unsafe_view(y, y.shape) if y._is_view() else y


def _linear_impl(
    x: Tensor,
    weight: Tensor,
    bias: Tensor | None,
    xs: Tensor | None,
    xz: Tensor | None,
    ws: Tensor | None,
    wz: Tensor | None,
    arithmetic: str,
) -> Tensor:
    return computed_layer(x, weight, bias, xs, xz, ws, wz, LINEAR, arithmetic)


def _conv_impl(
    x: Tensor,
    weight: Tensor,
    bias: Tensor | None,
    xs: Tensor | None,
    xz: Tensor | None,
    ws: Tensor | None,
    wz: Tensor | None,
    stride: Sequence[int],
    padding: Sequence[int],
    dilation: Sequence[int],
    groups: int,
    arithmetic: str,
) -> Tensor:
    geometry = conv_geometry(stride, padding, dilation, groups)
    return computed_layer(x, weight, bias, xs, xz, ws, wz, geometry, arithmetic)


def computed_layer(
    x: Tensor,
    weight: Tensor,
    bias: Tensor | None,
    xs: Tensor | None,
    xz: Tensor | None,
    ws: Tensor | None,
    wz: Tensor | None,
    geometry: Geometry,
    arithmetic: str,
) -> Tensor:
    """What ``dovetail::linear`` and ``dovetail::conv`` compute."""
    rule = Arithmetic.parse(arithmetic)
    with _own_dtypes(x):
        y = layer.emulate(x, weight, bias, _range(xs, xz), _range(ws, wz), rule, geometry)
    return owned(y)


def computed_matmul(
    x: Tensor,
    weight: Tensor,
    xs: Tensor | None,
    xz: Tensor | None,
    ws: Tensor | None,
    wz: Tensor | None,
    arithmetic: str,
) -> Tensor:
    """What ``dovetail::matmul`` computes."""
    rule = Arithmetic.parse(arithmetic)
    first = operand_range(x, layer.integer(rule.input), "input", _range(xs, xz))
    second = operand_range(weight, layer.integer(rule.weight), "second", _range(ws, wz))
    with _own_dtypes(x):
        y = _batched(x, weight, first, second, rule)
    return owned(y)


def _batched(x: Tensor, weight: Tensor, first: Range, second: Range, rule: Arithmetic) -> Tensor:
    def mac(a: Tensor, w: Tensor, geometry: Geometry) -> Tensor:
        return layer.emulate(a, w, None, first, second, rule, geometry)

    return batched(x, weight, mac)


def batched(x: Tensor, weight: Tensor, mac: Callable[[Tensor, Tensor, Geometry], Tensor]) -> Tensor:
    """Products of matrices as few calls of a layer: what is shared is multiplied once, and the
    pairs that share nothing are the groups of one convolution with a window of one pixel."""
    batch = torch.broadcast_shapes(x.shape[:-2], weight.shape[:-2])
    depth, columns = weight.shape[-2:]
    shape = (*batch, x.shape[-2], columns)
    if 0 in (*shape, depth):
        return x.new_zeros(shape)
    if weight.shape[:-2].numel() == 1:
        return mac(x, weight.reshape(depth, columns).mT, LINEAR).reshape(shape)
    if x.shape[:-2].numel() == 1:
        y = mac(x.reshape(-1, depth), weight.mT.reshape(-1, depth), LINEAR)
        y = y.reshape(x.shape[-2], -1, columns).movedim(0, 1)
        return y.reshape(shape).contiguous()
    left = x.expand(*batch, *x.shape[-2:]).mT.reshape(1, -1, x.shape[-2])
    right = weight.expand(*batch, depth, columns).mT.reshape(-1, depth, 1)
    y = mac(left, right, Geometry.conv(1, groups=batch.numel()))
    return y.reshape(*batch, columns, x.shape[-2]).mT.contiguous()


def _linear_fake(x: Tensor, weight: Tensor, *_: Any) -> Tensor:
    return x.new_empty(*x.shape[:-1], weight.shape[0])


def _conv_fake(x: Tensor, weight: Tensor, _bias: Any, *rest: Any) -> Tensor:
    geometry = conv_geometry(*rest[4:8])
    spatial = geometry.out_size(x.shape[2:], weight.shape[2:])
    return x.new_empty(x.shape[0], weight.shape[0], *spatial)


def _matmul_fake(x: Tensor, weight: Tensor, *_: Any) -> Tensor:
    batch = torch.broadcast_shapes(x.shape[:-2], weight.shape[:-2])
    return x.new_empty(*batch, x.shape[-2], weight.shape[-1])


def save(ctx: Any, inputs: tuple[Any, ...], output: Tensor | None = None) -> None:
    """Keep an op's inputs for its backward pass."""
    del output
    tensors = [v for v in inputs if isinstance(v, Tensor) or v is None]
    ctx.present = [v is not None for v in inputs if isinstance(v, Tensor) or v is None]
    ctx.save_for_backward(*[t for t in tensors if t is not None])
    ctx.settings = [v for v in inputs if not (isinstance(v, Tensor) or v is None)]


def saved(ctx: Any) -> tuple[list[Tensor | None], list[Any]]:
    """What :func:`save` kept: tensors, and what is none."""
    kept = iter(ctx.saved_tensors)
    return [next(kept) if there else None for there in ctx.present], ctx.settings


def needed(ctx: Any, scales: tuple[int, int]) -> list[bool]:
    """By input, weight and bias: also where only the scale of an operand is to be learned."""
    needs = ctx.needs_input_grad
    return [needs[0] or needs[scales[0]], needs[1] or needs[scales[1]], needs[2]]


def layer_gradients(
    ctx: Any, grad: Tensor, tensors: list[Tensor | None], geometry: Geometry, arithmetic: str
) -> tuple[Tensor | None, ...]:
    """By every tensor that ``dovetail::linear`` and ``dovetail::conv`` take."""
    x, weight, bias, *ranges = tensors
    assert x is not None
    assert weight is not None
    operands = grad, x, weight, bias, ranges, Arithmetic.parse(arithmetic)
    wanted = needed(ctx, (3, 5))
    if geometry.spatial:
        grads, steps = gradients.conv(*operands, geometry, wanted)
    else:
        grads, steps = gradients.linear(*operands, wanted)
    return (*grads, *steps)


def _linear_backward(ctx: Any, grad: Tensor) -> tuple[Any, ...]:
    tensors, (arithmetic,) = saved(ctx)
    return (*layer_gradients(ctx, grad, tensors, LINEAR, arithmetic), None)


def _conv_backward(ctx: Any, grad: Tensor) -> tuple[Any, ...]:
    tensors, (*shape, arithmetic) = saved(ctx)
    found = layer_gradients(ctx, grad, tensors, conv_geometry(*shape), arithmetic)
    return (*found, *[None] * 5)


def matmul_backward(ctx: Any, grad: Tensor) -> tuple[Any, ...]:
    """Of ``dovetail::matmul``."""
    tensors, (arithmetic,) = saved(ctx)
    x, weight, *ranges = tensors
    assert x is not None
    assert weight is not None
    rule = Arithmetic.parse(arithmetic)
    grads, steps = gradients.matmul(grad, x, weight, ranges, rule, needed(ctx, (2, 4))[:2])
    return (*grads, *steps, None)


for _name, _impl, _fake, _backward in (
    ("linear", _linear_impl, _linear_fake, _linear_backward),
    ("conv", _conv_impl, _conv_fake, _conv_backward),
    ("matmul", computed_matmul, _matmul_fake, matmul_backward),
):
    _library.impl(_name, _impl, "CompositeExplicitAutograd")
    register_fake(f"dovetail::{_name}", _fake, lib=_library)
    register_autograd(f"dovetail::{_name}", _backward, setup_context=save, lib=_library)
    register_vmap(f"dovetail::{_name}", one_by_one(_name), lib=_library)

linear = torch.ops.dovetail.linear
conv = torch.ops.dovetail.conv
matmul = torch.ops.dovetail.matmul
