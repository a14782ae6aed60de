"""What lowerings are written with: scalars become literals, shapes and types are made to agree."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any

import torch

from dovetail.compiler.groups.form import Former
from dovetail.compiler.groups.layout import Dim, Layout
from dovetail.compiler.groups.model import Constant, Index, Ref
from dovetail.compiler.ops.scalars import (
    cast_code,
    computed_in,
    is_computed,
    literal,
    type_name,
)

__all__ = ["Builder", "Spec", "Value", "dim"]

Value = Ref | Constant

#: Torch refuses extremes of no numbers; of no truth values, none holds and all do.
_OF_NOTHING = {"sum": 0, "prod": 1, "max": False, "min": True}


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
        #: Whether what has no lowering is called in eager mode.
        self.fallback = False

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
        words, refs = self._words(operands, shape, [computed_in(t) for t in types])
        made = cast_code(code.format(*words), computed_in(dtype), dtype)
        return self.former.pointwise(
            made, refs, shape, dtype, layout=layout, flops=flops, dear=dear
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
        if not (is_computed(value.dtype) and is_computed(dtype)):
            made = self.former.allocate(Layout.dense(value.shape), dtype)
            self.former.call("aten._to_copy.default", [value], [made], dtype=dtype)
            return made
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

    def reduce(self, kind: str, value: Value, dims: Sequence[int], dtype: torch.dtype) -> Value:
        """``kind`` over ``dims``, which stay as ones; the sum is made in ``dtype``.

        Of 16-bit floats it is made in float32, and rounded once.
        """
        if 0 in value.shape:
            shape = tuple(1 if d in dims else e for d, e in enumerate(value.shape))
            return Constant(_OF_NOTHING[kind], shape, dtype)
        wide = computed_in(dtype)
        ref = self.tensor(self.cast(value, wide))
        return self.cast(self.former.reduce(kind, ref, dims, wide), dtype)
