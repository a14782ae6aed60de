"""Which operators are taken apart before lowering: all but those with a kernel or a lowering."""

from __future__ import annotations

from collections.abc import Callable
from functools import cache
from typing import Any

import torch
from torch import Tensor

__all__ = ["decompositions"]

aten = torch.ops.aten

#: Core ATen keeps these whole; groups of their parts are faster.
_MORE = """
    native_layer_norm native_layer_norm_backward native_group_norm native_group_norm_backward
    _softmax _log_softmax _softmax_backward_data _log_softmax_backward_data gelu gelu_backward
    native_batch_norm native_batch_norm_backward _native_batch_norm_legit
    _native_batch_norm_legit_functional batch_norm_backward silu silu_backward sigmoid_backward
    tanh_backward threshold_backward leaky_relu leaky_relu_backward elu elu_backward hardswish
    hardswish_backward hardsigmoid hardsigmoid_backward hardtanh_backward softplus
    softplus_backward mse_loss mse_loss_backward nll_loss_forward nll_loss_backward
    select_backward slice_backward embedding_dense_backward addcmul addcdiv linear_backward
    native_dropout_backward stack linalg_vector_norm
"""

#: Taken apart they would be slower, or no longer what a kernel computes.
_WHOLE = (
    "_native_batch_norm_legit_no_training",
    "upsample_bilinear2d",
    "upsample_nearest2d",
    "avg_pool2d",
    "_adaptive_avg_pool2d",
    "embedding_dense_backward",
    "sum",
    "_scaled_dot_product_flash_attention_for_cpu",
)


def decompositions() -> dict[Any, Callable[..., Any]]:
    """The table that captures are made with.

    >>> torch.ops.aten.gelu.default in decompositions()
    True
    >>> torch.ops.aten.convolution.default in decompositions()
    False
    """
    return dict(_table())


@cache
def _table() -> dict[Any, Callable[..., Any]]:
    from torch._decomp import core_aten_decompositions, get_decompositions

    table = dict(core_aten_decompositions())
    present = [getattr(aten, name) for name in _MORE.split() if hasattr(aten, name)]
    table.update(get_decompositions(present))
    for name in _WHOLE:
        packet = getattr(aten, name, None)
        for overload in packet.overloads() if packet is not None else ():
            table.pop(getattr(packet, overload), None)
    table[aten.scatter.value] = _scatter_value  # a scalar has no place in torch's C interface
    return table


def _scatter_value(x: Tensor, dim: int, index: Tensor, value: float) -> Tensor:
    return torch.scatter(x, dim, index, torch.full_like(index, value, dtype=x.dtype))
