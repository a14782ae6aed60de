"""Groups formed in one walk: every operation joins the group of its last operand, where it can.

Nothing is searched twice: the time is linear in the graph.
"""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

import torch

from dovetail.compiler.groups.layout import Dim, Layout, total
from dovetail.compiler.groups.model import (
    Access,
    Buffer,
    Call,
    Constant,
    Group,
    Index,
    Loops,
    Program,
    Reduction,
    Ref,
    Statement,
    View,
)
from dovetail.compiler.groups.place import Local, Places
from dovetail.compiler.groups.refine import access

__all__ = ["Former"]


class Former:
    """Builds a :class:`Program`: what the lowering of each operator calls."""

    def __init__(self, name: str) -> None:
        self.program = Program(name, {}, [], [], [])
        self.groups: list[Group] = self.program.groups
        self.buffers = self.program.buffers
        self.origin = ""
        self._places = Places(self.groups)
        self._count = 0

    # -- memory ---------------------------------------------------------------------------------

    def fresh(self, stem: str) -> str:
        """A name that nothing has yet."""
        stem = stem or "value"
        name = stem
        while name in self.buffers or name in self._places.made:
            self._count += 1
            name = f"{stem}_{self._count}"
        return name

    def allocate(
        self, layout: Layout, dtype: torch.dtype, role: str = "temporary", name: str = ""
    ) -> Ref:
        """A new buffer that holds exactly the elements of ``layout``."""
        name = self.fresh(name or self.origin)
        size = 0 if 0 in layout.shape else layout.span
        self.buffers[name] = Buffer(name, size, dtype, role)
        self._places.made[name] = -1
        return Ref(name, layout, dtype)

    def input(self, name: str, layout: Layout, dtype: torch.dtype) -> Ref:
        """A buffer that the caller gives."""
        ref = self.allocate(layout, dtype, "input", name)
        self.program.inputs.append(ref.buffer)
        self.program.given[ref.buffer] = layout
        return ref

    def constant(self, value: torch.Tensor) -> Ref:
        """A buffer that was computed when compiling."""
        layout = Layout(tuple(value.shape), tuple(value.stride()))
        ref = self.allocate(layout, value.dtype, "constant")
        self.buffers[ref.buffer].value = value
        return ref

    def in_memory(self, ref: Ref) -> Ref:
        """``ref``, whose elements are from now on written to memory where they are computed."""
        local = self._places.local.get(ref.buffer)
        if local is not None:
            group = self._places.loops(local.group)
            place = access(ref.buffer, local.layout, ref.dtype, group, local.row)
            if (local.statement, place) not in group.stores:
                group.stores.append((local.statement, place))
        return ref

    # -- groups ---------------------------------------------------------------------------------

    def pointwise(
        self,
        code: str,
        operands: Sequence[Ref | Index],
        shape: Sequence[Dim],
        dtype: torch.dtype,
        *,
        layout: Layout | None = None,
        flops: int = 1,
        dear: bool = False,
    ) -> Ref:
        """``code`` at every element of ``shape``; operands have that shape already."""
        out = self.allocate(layout or Layout.dense(shape), dtype)
        if 0 in shape:
            return out
        refs = [o for o in operands if isinstance(o, Ref)]
        number = self._places.find(refs, tuple(shape))
        group = self._places.loops(number)
        row = not _is_full(group, tuple(shape))
        uses = tuple(self._use(o, number, row, tuple(shape)) for o in operands)
        name = f"{out.buffer}_"
        group.body.append(Statement(name, code, uses, dtype, row, self.origin, flops, dear))
        self._places.local[out.buffer] = Local(number, name, out.layout, row)
        self._places.made[out.buffer] = number
        return out

    def copy(self, source: Ref | Constant, target: Ref, code: str = "{0}") -> Ref:
        """``source`` written to where ``target`` says: to another layout, or a part of a tensor.

        Of a constant, ``code`` is its literal.
        """
        if 0 in source.shape:
            return target
        refs = [source] if isinstance(source, Ref) else []
        number = self._places.find(refs, source.shape)
        group = self._places.loops(number)
        row = not _is_full(group, source.shape)
        uses = tuple(self._use(ref, number, row, ref.shape) for ref in refs)
        use = uses[0] if uses else None
        if not isinstance(use, str):
            name = self.fresh(f"{target.buffer}_copied")
            self._places.made[name] = number
            group.body.append(Statement(name, code, uses, source.dtype, row, self.origin, flops=0))
            use = name
        group.stores.append((use, access(target.buffer, target.layout, target.dtype, group, row)))
        self._places.touched[number].add(target.buffer)
        self._places.made[target.buffer] = max(self._places.made[target.buffer], number)
        return target

    def reduce(self, kind: str, operand: Ref, dims: Sequence[int], dtype: torch.dtype) -> Ref:
        """``kind`` of the elements along ``dims``, which the result has as ones."""
        shape = tuple(1 if d in dims else e for d, e in enumerate(operand.shape))
        mask = tuple(d in dims and e != 1 for d, e in enumerate(operand.shape))
        if not any(mask):
            return self.pointwise("{0}", [operand], operand.shape, dtype, flops=0)
        out = self.allocate(Layout.dense(shape), dtype)
        number = self._places.find([operand], operand.shape, mask)
        group = self._places.loops(number)
        use = self._use(operand, number, row=False, shape=operand.shape)
        assert not isinstance(use, Index)
        name = f"{out.buffer}_"
        group.body.append(Reduction(name, kind, use, dtype, self.origin))
        self._places.local[out.buffer] = Local(number, name, out.layout, row=True)
        self._places.made[out.buffer] = number
        return out

    def call(
        self, key: str, inputs: list[Any], outputs: list[Ref | None], **attributes: Any
    ) -> None:
        """One library node that reads ``inputs`` from memory and writes ``outputs``."""
        inputs = [self._forward(value) for value in inputs]
        for ref in _flat(inputs):
            self.in_memory(ref)
        number = self._places.last_call = len(self.groups)
        self.groups.append(Call(self.fresh(self.origin), key, inputs, outputs, attributes))
        for out in outputs:
            if out is not None:
                self._places.made[out.buffer] = number

    def _forward(self, value: Any) -> Any:
        """An input of a library node: what runs backwards through memory is copied, as torch's
        tensors cannot."""
        if isinstance(value, (list, tuple)):
            return [self._forward(item) for item in value]
        if isinstance(value, Ref) and _is_backward(value.layout):
            return self.copy(value, self.allocate(Layout.dense(value.shape), value.dtype))
        return value

    def view(self, source: Ref, layout: Layout) -> Ref:
        """Other elements of the same buffer, or the same in another order."""
        self.groups.append(View(self.origin, Ref(source.buffer, layout, source.dtype)))
        return Ref(source.buffer, layout, source.dtype)

    def _use(
        self, operand: Ref | Index, number: int, row: bool, shape: tuple[Dim, ...]
    ) -> str | Access | Index:
        """How a statement of group ``number``, one over ``shape``, names ``operand``."""
        group = self._places.loops(number)
        if isinstance(operand, Index):
            place = access("", Layout(shape, operand.strides), torch.int64, group, row)
            return Index(place.strides, operand.offset)
        local = self._places.local.get(operand.buffer)
        if local is not None and local.group == number:
            return local.statement
        self.in_memory(operand)
        return access(operand.buffer, operand.layout, operand.dtype, group, row)


def _is_backward(layout: Layout) -> bool:
    return any(isinstance(stride, int) and stride < 0 for stride in layout.strides)


def _flat(values: Any) -> list[Ref]:
    if isinstance(values, Ref):
        return [values]
    if isinstance(values, (list, tuple)):
        return [ref for value in values for ref in _flat(value)]
    return []


def _is_full(group: Loops, shape: tuple[Dim, ...]) -> bool:
    return not group.is_reduction or total(shape) == total(group.shape)
