"""The ops with their gradients, without torch's dispatch: for where autograd alone is watching."""

from __future__ import annotations

from typing import Any

import torch
from torch import Tensor

from dovetail.kernels import library

__all__ = ["RecordedLayer", "RecordedMatmul"]


class RecordedLayer(torch.autograd.Function):
    """``dovetail::linear`` and ``dovetail::conv``, of the operands of ``library.computed_layer``.

    >>> from dovetail.arithmetic import Arithmetic
    >>> from dovetail.kernels.geometry import LINEAR
    >>> int8 = Arithmetic(input="int8", weight="int8").spelling
    >>> x, weight, step = torch.ones(1, 2), torch.ones(3, 2, requires_grad=True), torch.ones(())
    >>> layer = x, weight, None, step, None, step, None, LINEAR, int8
    >>> RecordedLayer.apply(*layer).sum().backward()
    >>> weight.grad
    tensor([[1., 1.],
            [1., 1.],
            [1., 1.]])
    """

    @staticmethod
    def forward(ctx: Any, *inputs: Any) -> Tensor:
        library.save(ctx, inputs)
        return library.computed_layer(*inputs)

    @staticmethod
    def backward(ctx: Any, *grads: Tensor) -> tuple[Any, ...]:
        tensors, (geometry, arithmetic) = library.saved(ctx)
        found = library.layer_gradients(ctx, grads[0], tensors, geometry, arithmetic)
        return (*found, None, None)


class RecordedMatmul(torch.autograd.Function):
    """``dovetail::matmul``.

    >>> from dovetail.arithmetic import Arithmetic
    >>> int8 = Arithmetic(input="int8", weight="int8").spelling
    >>> x, y, step = torch.ones(1, 2), torch.ones(2, 1, requires_grad=True), torch.ones(())
    >>> RecordedMatmul.apply(x, y, step, None, step, None, int8).sum().backward()
    >>> y.grad
    tensor([[1.],
            [1.]])
    """

    @staticmethod
    def forward(ctx: Any, *inputs: Any) -> Tensor:
        library.save(ctx, inputs)
        return library.computed_matmul(*inputs)

    @staticmethod
    def backward(ctx: Any, *grads: Tensor) -> tuple[Any, ...]:
        return library.matmul_backward(ctx, grads[0])
