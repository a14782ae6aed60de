"""What lowerings are written with: scalars become literals, shapes and types are made to agree."""

from __future__ import annotations

import math
from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any

import sympy
import torch

from dovetail.compiler.groups.form import Former
from dovetail.compiler.groups.layout import Dim, Layout
from dovetail.compiler.groups.model import Constant, Index, Ref
from dovetail.compiler.ops.sizes import size_code
from dovetail.errors import DovetailError

__all__ = ["Builder", "Spec", "Value", "dim", "literal", "type_name"]

Value = Ref | Constant

_NAMES = {
    torch.float64: "dace.float64",
    torch.float32: "dace.float32",
    torch.int64: "dace.int64",
    torch.int32: "dace.int32",
    torch.int16: "dace.int16",
    torch.int8: "dace.int8",
    torch.uint8: "dace.uint8",
    torch.bool: "dace.bool_",
}


def type_name(dtype: torch.dtype) -> str:
    """How a tasklet spells ``dtype``.

    >>> type_name(torch.float32)
    'dace.float32'
    """
    if dtype not in _NAMES:
        raise DovetailError(f"elements of {dtype} are not computed in generated code")
    return _NAMES[dtype]


def literal(value: Any, dtype: torch.dtype) -> str:
    """``value``, a number or an expression of sizes, in a tasklet, as an element of ``dtype``.

    >>> literal(0.5, torch.float32), literal(float("-inf"), torch.float32)
    ('dace.float32(0.5)', 'dace.float32(-dv_inf())')
    """
    name = type_name(dtype)
    if isinstance(value, sympy.Expr) and not value.is_number:
        return f"{name}({size_code(value)})"
    if dtype == torch.bool:
        return f"{name}({int(bool(value))})"
    if not dtype.is_floating_point:
        return f"{name}({int(value)})"
    number = float(value)
    if math.isinf(number):
        return f"{name}({'-' if number < 0 else ''}dv_inf())"
    return f"{name}(dv_nan())" if math.isnan(number) else f"{name}({number!r})"


def dim(value: Any) -> Dim:
    """A size as an int, or as the sympy expression of one that is known at the call.

    >>> dim(3)
    3
    """
    if isinstance(value, (torch.SymInt, torch.SymFloat, torch.SymBool)):
        found = value.node.expr
        return int(found) if getattr(found, "is_Integer", False) else found
    return value


@dataclass(frozen=True)
class Spec:
    """Shape, strides and type that a tensor must have."""

    shape: tuple[Dim, ...]
    strides: tuple[Dim, ...]
    dtype: torch.dtype

    @staticmethod
    def of(value: torch.Tensor) -> Spec:
        """Those of a (fake) tensor."""
        shape, strides = (tuple(map(dim, dims)) for dims in (value.shape, value.stride()))
        return Spec(shape, strides, value.dtype)


class Builder:
    """A :class:`Former` with the manners of tensors: broadcasting, promotion, literals."""

    def __init__(self, former: Former) -> None:
        self.former = former
        #: The fake results of the node that is lowered: what shape and type they must have.
        self.results: list[Spec | None] = []
        #: Whether the node that is lowered is a result of the graph.
        self.returned = False

    @property
    def result(self) -> Spec:
        """The (first) result of the node that is lowered."""
        found = self.results[0]
        assert found is not None
        return found

    def elementwise(
        self,
        code: str,
        operands: Sequence[Value | float | Index],
        shape: Sequence[Dim],
        dtype: torch.dtype,
        computed: torch.dtype | Sequence[torch.dtype] | None = None,
        *,
        layout: Layout | None = None,
        flops: int = 1,
        dear: bool = False,
    ) -> Ref:
        """``code`` at every element: operands broadcast to ``shape`` and cast to ``computed``.

        That is one type, or one per operand; without it they are cast to the result's.
        """
        computed = computed or dtype
        types = [computed] * len(operands) if isinstance(computed, torch.dtype) else computed
        words, refs = self._words(operands, shape, types)
        return self.former.pointwise(
            code.format(*words), refs, shape, dtype, layout=layout, flops=flops, dear=dear
        )

    def _words(
        self,
        operands: Sequence[Value | float | Index],
        shape: Sequence[Dim],
        types: Sequence[torch.dtype],
    ) -> tuple[list[str], list[Ref | Index]]:
        words: list[str] = []
        refs: list[Ref | Index] = []
        for operand, dtype in zip(operands, types, strict=True):
            if isinstance(operand, Index):
                words.append(f"{type_name(dtype)}({{{len(refs)}}})")
                refs.append(operand)
            elif isinstance(operand, Ref):
                words.append(cast_code(f"{{{len(refs)}}}", operand.dtype, dtype))
                refs.append(Ref(operand.buffer, operand.layout.expand(shape), operand.dtype))
            else:
                value = operand.value if isinstance(operand, Constant) else operand
                words.append(literal(value, dtype))
        return words, refs

    def cast(self, value: Value, dtype: torch.dtype) -> Value:
        """``value`` as ``dtype``."""
        if value.dtype == dtype:
            return value
        if isinstance(value, Constant):
            return Constant(value.value, value.shape, dtype)
        code = cast_code("{0}", value.dtype, dtype)
        return self.former.pointwise(code, [value], value.shape, dtype)

    def relayout(self, value: Value, layout: Layout) -> Value:
        """``value`` with its dimensions named anew: free."""
        if isinstance(value, Constant):
            return Constant(value.value, layout.shape, value.dtype)
        return self.former.view(value, layout)

    def layout_of(self, value: Value) -> Layout:
        """The layout of a value; that of a constant does not move."""
        if isinstance(value, Ref):
            return value.layout
        return Layout(value.shape, (0,) * len(value.shape))

    def is_given(self, ref: Ref) -> bool:
        """Whether the caller owns the memory of ``ref``."""
        return self.former.buffers[ref.buffer].role == "input"

    def copied(self, value: Value, layout: Layout) -> Ref:
        """``value`` in memory of its own that looks like ``layout``."""
        target = self.former.allocate(layout, value.dtype)
        return self.copy(value, target)

    def copy(self, value: Value, target: Ref) -> Ref:
        """``value`` written into ``target``."""
        if isinstance(value, Constant):
            return self.former.copy(value, target, literal(value.value, value.dtype))
        return self.former.copy(value, target)

    def tensor(self, value: Value) -> Ref:
        """``value`` as something in memory, for a call."""
        return value if isinstance(value, Ref) else self.copied(value, Layout.dense(value.shape))

    def reshape(self, value: Value, shape: Sequence[Dim]) -> Value:
        """``value`` in another shape: a view where strides allow it, otherwise a copy."""
        found = self.layout_of(value).view(shape)
        if found is None:
            value = self.copied(value, Layout.dense(value.shape))
            found = value.layout.view(shape)
        if found is None:
            found = Layout.dense(shape)
        return self.relayout(value, found)

    def reduce(self, kind: str, value: Value, dims: Sequence[int], dtype: torch.dtype) -> Ref:
        """``kind`` over ``dims``, which stay as ones; the sum is made in ``dtype``."""
        ref = self.tensor(self.cast(value, dtype))
        return self.former.reduce(kind, ref, dims, dtype)


def cast_code(word: str, old: torch.dtype, new: torch.dtype) -> str:
    """An expression of type ``old`` as one of type ``new``."""
    if old == new:
        return word
    if new == torch.bool:
        return f"({word} != 0)"
    return f"{type_name(new)}({word})"
