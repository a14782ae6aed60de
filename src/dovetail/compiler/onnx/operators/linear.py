"""Products of matrices."""

from __future__ import annotations

import torch
import torch.nn.functional as F
from torch import Tensor

from dovetail.compiler.onnx.operators.widened import widened
from dovetail.compiler.onnx.registry import operator


@operator("MatMul", weights=(1,))
@widened
def matmul(a: Tensor, b: Tensor) -> Tensor:
    """As NumPy's."""
    return torch.matmul(a, b)


@operator("Gemm", weights=(1, 2))
def gemm(
    a: Tensor,
    b: Tensor,
    c: Tensor | None = None,
    *,
    alpha: float = 1.0,
    beta: float = 1.0,
    transA: int = 0,
    transB: int = 0,
) -> Tensor:
    """``alpha a b + beta c``, each of ``a`` and ``b`` perhaps turned."""
    a = a.t() if transA else a
    weight = b if transB else b.t()
    if not a.is_floating_point():
        product = a @ weight.t()
        return product if c is None else product + c
    whole = alpha == 1 and beta == 1 and c is not None and c.shape == weight.shape[:1]
    if whole:
        return F.linear(a, weight, c)
    product = F.linear(a, weight)
    product = product if alpha == 1 else alpha * product
    return product if c is None else product + (c if beta == 1 else beta * c)


@operator("Einsum", 12)
def einsum(*inputs: Tensor, equation: str) -> Tensor:
    """As NumPy's."""
    return torch.einsum(equation.replace(" ", ""), *inputs)
