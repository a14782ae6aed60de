"""Floating-point products through an accumulator: ``dovetail::accumulate``.

The operands are the cast values. Each product is formed in float64, which is exact unless an
operand needs more than 26 significant bits (only float64 tensors can); the register's content is
then rounded to float32, or to float64 for float64 operands, to which the bias is added.
"""

from __future__ import annotations

from collections.abc import Sequence

import torch
from torch import Tensor
from torch.library import Library, register_fake, register_vmap

from dovetail.accumulators import Accumulator, accumulator
from dovetail.kernels.accumulate import Products, Totals, accumulate, over_matrices
from dovetail.kernels.accumulate_columns import columns
from dovetail.kernels.batching import one_by_one
from dovetail.kernels.geometry import Geometry
from dovetail.kernels.library import conv_geometry
from dovetail.kernels.native_accumulate import NativeSteps, steps_of_values
from dovetail.kernels.realisation import forced

__all__ = ["accumulate_values", "value_totals"]

_library = Library("dovetail", "FRAGMENT")
_library.define(
    "accumulate(Tensor x, Tensor weight, int[] stride, int[] padding, int[] dilation, int groups, "
    "str acc) -> Tensor"
)


def value_totals(
    x: Tensor, weight: Tensor, geometry: Geometry, acc: Accumulator, *, counting: bool = False
) -> Totals:
    """The registers of a convolution, or of ``x [..., M, K] @ weight [..., K, N]``, in float64.

    >>> from dovetail.kernels.geometry import LINEAR
    >>> x, w = torch.tensor([[2048.0, 1.0]]), torch.ones(2, 1)
    >>> value_totals(x, w, LINEAR, accumulator("fp16")).total
    tensor([[2048.]], dtype=torch.float64)
    """
    if (steps := _native_steps(x, weight, geometry, acc)) is not None:
        return _natively(x, weight, geometry, steps, counting)
    cols = columns(x.double(), weight.double(), geometry)
    products = Products(
        cols.length, cols.shape, None, lambda i, j: cols.first(i, j) * cols.second(i, j)
    )
    found = accumulate(products, acc, x.device, counting=counting)
    shape = cols.shape if geometry.spatial == 0 else geometry.out_shape(x.shape, weight.shape)
    overflows = None if found.overflows is None else found.overflows.reshape(shape)
    return Totals(found.total.reshape(shape), overflows, found.additions)


def _native_steps(
    x: Tensor, weight: Tensor, geometry: Geometry, acc: Accumulator
) -> NativeSteps | None:
    """The core's steps, where products of these operands are exact in them."""
    if forced() is not None or x.device.type != "cpu" or _wide(x, weight) == torch.float64:
        return None
    depth = geometry.reduction(weight.shape) if geometry.spatial else x.shape[-1]
    steps = steps_of_values(acc)
    return steps if steps is not None and steps.holds(depth) else None


def _natively(
    x: Tensor, weight: Tensor, geometry: Geometry, steps: NativeSteps, counting: bool
) -> Totals:
    if geometry.spatial:
        return steps.totals(x, steps.pack(weight, geometry), counting=counting)
    return over_matrices(
        x, weight.mT, lambda a, w: steps.totals(a, steps.pack(w), counting=counting)
    )


def _wide(x: Tensor, weight: Tensor) -> torch.dtype:
    both = torch.promote_types(x.dtype, weight.dtype)
    return torch.float64 if both == torch.float64 else torch.float32


def _accumulate(
    x: Tensor,
    weight: Tensor,
    stride: Sequence[int],
    padding: Sequence[int],
    dilation: Sequence[int],
    groups: int,
    acc: str,
) -> Tensor:
    geometry = conv_geometry(stride, padding, dilation, groups)
    return value_totals(x, weight, geometry, accumulator(acc)).total.to(_wide(x, weight))


def _accumulate_fake(
    x: Tensor,
    weight: Tensor,
    stride: Sequence[int],
    padding: Sequence[int],
    dilation: Sequence[int],
    groups: int,
    acc: str,
) -> Tensor:
    del acc
    if stride:
        geometry = conv_geometry(stride, padding, dilation, groups)
        spatial = geometry.out_size(x.shape[2:], weight.shape[2:])
        shape: tuple[int, ...] = (x.shape[0], weight.shape[0], *spatial)
    else:
        batch = torch.broadcast_shapes(x.shape[:-2], weight.shape[:-2])
        shape = (*batch, x.shape[-2], weight.shape[-1])
    return x.new_empty(shape, dtype=_wide(x, weight))


_library.impl("accumulate", _accumulate, "CompositeExplicitAutograd")
register_fake("dovetail::accumulate", _accumulate_fake, lib=_library)
register_vmap("dovetail::accumulate", one_by_one("accumulate"), lib=_library)


def accumulate_values(
    x: Tensor, weight: Tensor, bias: Tensor | None, geometry: Geometry, acc: Accumulator
) -> Tensor:
    """The result of a convolution or a matmul whose products ``acc`` sums; it has no gradient.

    >>> from dovetail.kernels.geometry import LINEAR
    >>> x, w = torch.tensor([[2048.0, 1.0]]), torch.ones(2, 1)
    >>> accumulate_values(x, w, None, LINEAR, accumulator("fp16"))
    tensor([[2048.]])
    """
    padding = [p for pair in geometry.padding for p in pair]
    window = (list(geometry.stride), padding, list(geometry.dilation), geometry.groups)
    y: Tensor = torch.ops.dovetail.accumulate(x, weight, *window, acc.spelling)
    if bias is not None:
        y = y + bias.to(y.dtype).view(-1, *[1] * geometry.spatial)
    return y.to(torch.promote_types(x.dtype, weight.dtype))
