"""Words of C++ that describe a tensor to libtorch."""

from __future__ import annotations

import math
from typing import Any

import torch

from dovetail.compiler.engine import load_dace
from dovetail.compiler.nodes.base import Operand, is_symbolic

__all__ = ["dtype_code", "number", "view"]


def number(value: Any) -> str:
    """A C++ expression of an integer, a float (exact) or a symbolic expression.

    >>> number(3), number(0.1), number(float("-inf"))
    ('3', '0x1.999999999999ap-4', '-INFINITY')
    """
    if is_symbolic(value):
        return str(load_dace().symbolic.symstr(value, cpp_mode=True))
    if isinstance(value, float):
        if math.isinf(value):
            return "INFINITY" if value > 0 else "-INFINITY"
        return "NAN" if math.isnan(value) else value.hex()
    return str(int(value))


def dtype_code(dtype: torch.dtype) -> str:
    """The call that returns libtorch's number of ``dtype``.

    >>> dtype_code(torch.int8)
    'aoti_torch_dtype_int8()'
    """
    return f"aoti_torch_dtype_{str(dtype).removeprefix('torch.')}()"


def view(operand: Operand) -> str:
    """An owned handle of a tensor over the operand's memory."""
    start = operand.data if operand.offset == 0 else f"{operand.data} + {number(operand.offset)}"
    sizes = ", ".join(f"int64_t({number(s)})" for s in operand.shape)
    strides = ", ".join(f"int64_t({number(s)})" for s in operand.strides)
    return f"dovetail_aten::view({start}, {dtype_code(operand.dtype)}, {{{sizes}}}, {{{strides}}})"
