"""The ops with their gradients, without torch's dispatch: for where autograd alone is watching."""

from __future__ import annotations

from typing import Any

import torch
from torch import Tensor

from dovetail.arithmetic import Arithmetic
from dovetail.kernels import gradients, library

__all__ = ["RecordedLayer", "RecordedMatmul"]


class RecordedLayer(torch.autograd.Function):
    """``dovetail::linear`` and ``dovetail::conv``, of the operands of ``library.computed_layer``.

    >>> RecordedLayer.__name__
    'RecordedLayer'
    """

    @staticmethod
    def forward(ctx: Any, *inputs: Any) -> Tensor:
        library.save(ctx, inputs)
        return library.computed_layer(*inputs)

    @staticmethod
    def backward(ctx: Any, *grads: Tensor) -> tuple[Any, ...]:
        (x, weight, bias, *ranges), (geometry, arithmetic) = library.saved(ctx)
        assert x is not None
        assert weight is not None
        rule, needed = Arithmetic.parse(arithmetic), library.needed(ctx, (3, 5))
        operands = grads[0], x, weight, bias, ranges, rule
        if geometry.spatial:
            found, steps = gradients.conv(*operands, geometry, needed)
        else:
            found, steps = gradients.linear(*operands, needed)
        return (*found, *steps, None, None)


class RecordedMatmul(torch.autograd.Function):
    """``dovetail::matmul``.

    >>> RecordedMatmul.__name__
    'RecordedMatmul'
    """

    @staticmethod
    def forward(ctx: Any, *inputs: Any) -> Tensor:
        library.save(ctx, inputs)
        return library.computed_matmul(*inputs)

    @staticmethod
    def backward(ctx: Any, *grads: Tensor) -> tuple[Any, ...]:
        return library.matmul_backward(ctx, grads[0])
