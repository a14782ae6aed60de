"""Groups formed in one walk: every operation joins the group of its last operand, where it can.

An operation may run in the last group that made one of its operands, or in any later one; it joins
if its index space is the group's (or the group's rows), so that each operand computed there is used
at the element where it was computed. Nothing is searched twice: the time is linear in the graph.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any

import torch

from dovetail.compiler.groups.layout import Dim, Layout, refinement, total
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
from dovetail.compiler.groups.refine import access, is_worth, refine, rows_refined, spread

__all__ = ["Former"]

#: Buffers that one nest touches at most: each is a pointer that wants a register.
MOST_BUFFERS = 48


@dataclass(frozen=True)
class _Local:
    """Where a buffer's elements are computed: usable there without memory."""

    group: int
    statement: str
    layout: Layout
    row: bool


class Former:
    """Builds a :class:`Program`: what the lowering of each operator calls."""

    def __init__(self, name: str) -> None:
        self.program = Program(name, {}, [], [], [])
        self.groups: list[Group] = self.program.groups
        self.buffers = self.program.buffers
        self.origin = ""
        self._made: dict[str, int] = {}
        self._local: dict[str, _Local] = {}
        self._latest: dict[Dim, int] = {}
        self._last_call = -1
        self._touched: dict[int, set[str]] = {}
        self._count = 0

    # -- memory ---------------------------------------------------------------------------------

    def fresh(self, stem: str) -> str:
        """A name that nothing has yet."""
        stem = stem or "value"
        name = stem
        while name in self.buffers or name in self._made:
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
        self._made[name] = -1
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
        local = self._local.get(ref.buffer)
        if local is not None:
            group = self._loops(local.group)
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
        number = self._place(refs, tuple(shape))
        group = self._loops(number)
        row = not _is_full(group, tuple(shape))
        uses = tuple(self._use(o, number, row, tuple(shape)) for o in operands)
        name = f"{out.buffer}_"
        group.body.append(Statement(name, code, uses, dtype, row, self.origin, flops, dear))
        self._local[out.buffer] = _Local(number, name, out.layout, row)
        self._made[out.buffer] = number
        return out

    def copy(self, source: Ref | Constant, target: Ref, code: str = "{0}") -> Ref:
        """``source`` written to where ``target`` says: to another layout, or a part of a tensor.

        Of a constant, ``code`` is its literal.
        """
        if 0 in source.shape:
            return target
        refs = [source] if isinstance(source, Ref) else []
        number = self._place(refs, source.shape)
        group = self._loops(number)
        row = not _is_full(group, source.shape)
        uses = tuple(self._use(ref, number, row, ref.shape) for ref in refs)
        use = uses[0] if uses else None
        if not isinstance(use, str):
            name = self.fresh(f"{target.buffer}_copied")
            self._made[name] = number
            group.body.append(Statement(name, code, uses, source.dtype, row, self.origin, flops=0))
            use = name
        group.stores.append((use, access(target.buffer, target.layout, target.dtype, group, row)))
        self._touched[number].add(target.buffer)
        self._made[target.buffer] = max(self._made[target.buffer], number)
        return target

    def reduce(self, kind: str, operand: Ref, dims: Sequence[int], dtype: torch.dtype) -> Ref:
        """``kind`` of the elements along ``dims``, which the result has as ones."""
        shape = tuple(1 if d in dims else e for d, e in enumerate(operand.shape))
        mask = tuple(d in dims and e != 1 for d, e in enumerate(operand.shape))
        if not any(mask):
            return self.pointwise("{0}", [operand], operand.shape, dtype, flops=0)
        out = self.allocate(Layout.dense(shape), dtype)
        number = self._place([operand], operand.shape, mask)
        group = self._loops(number)
        use = self._use(operand, number, row=False, shape=operand.shape)
        assert not isinstance(use, Index)
        name = f"{out.buffer}_"
        group.body.append(Reduction(name, kind, use, dtype, self.origin))
        self._local[out.buffer] = _Local(number, name, out.layout, row=True)
        self._made[out.buffer] = number
        return out

    def call(
        self, key: str, inputs: list[Any], outputs: list[Ref | None], **attributes: Any
    ) -> None:
        """One library node that reads ``inputs`` from memory and writes ``outputs``."""
        inputs = [self._forward(value) for value in inputs]
        for ref in _flat(inputs):
            self.in_memory(ref)
        number = self._last_call = len(self.groups)
        self.groups.append(Call(self.fresh(self.origin), key, inputs, outputs, attributes))
        for out in outputs:
            if out is not None:
                self._made[out.buffer] = number

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

    # -- where an operation goes ----------------------------------------------------------------

    def _loops(self, number: int) -> Loops:
        group = self.groups[number]
        assert isinstance(group, Loops)
        return group

    def _place(self, refs: list[Ref], shape: tuple[Dim, ...], mask: tuple[bool, ...] = ()) -> int:
        """The group that the operation runs in: one that stands already, or a new one."""
        last = max((self._made[ref.buffer] for ref in refs), default=-1)
        beside = self._latest.get(total(shape), -1)
        number = -1
        for candidate in (last, beside if beside > max(last, self._last_call) else -1):
            if candidate >= 0 and self._joins(candidate, refs, shape, mask):
                number = candidate
                break
        if number < 0:
            number = self._open(shape, mask)
        self._touched[number].update(ref.buffer for ref in refs)
        group = self._loops(number)
        self._latest[total(group.shape)] = number
        if group.is_reduction:
            self._latest[total(group.kept_shape)] = number
        return number

    def _open(self, shape: tuple[Dim, ...], mask: tuple[bool, ...]) -> int:
        """A new group, last in order."""
        kept = mask or (False,) * len(shape)
        flags = tuple(m for e, m in zip(shape, kept, strict=True) if e != 1)
        self.groups.append(Loops(tuple(e for e in shape if e != 1), flags))
        self._touched[len(self.groups) - 1] = set()
        return len(self.groups) - 1

    def _joins(
        self, number: int, refs: list[Ref], shape: tuple[Dim, ...], mask: tuple[bool, ...]
    ) -> bool:
        group = self.groups[number]
        if not isinstance(group, Loops) or self._is_full(number, refs):
            return False
        return (
            self._joins_whole(number, group, refs, shape, mask)
            if mask or total(shape) == total(group.shape)
            else self._joins_rows(number, group, refs, shape)
        )

    def _is_full(self, number: int, refs: list[Ref]) -> bool:
        return len(self._touched[number] | {ref.buffer for ref in refs}) > MOST_BUFFERS

    def _joins_whole(
        self,
        number: int,
        group: Loops,
        refs: list[Ref],
        shape: tuple[Dim, ...],
        mask: tuple[bool, ...],
    ) -> bool:
        fine = refinement(group.shape, shape)
        if fine is None:
            return False
        flags = spread(group.shape, group.reduced, fine)
        if mask:
            wanted = spread(shape, mask, fine)
            if group.is_reduction and flags != wanted:
                return False
            if not group.is_reduction and not is_worth(fine, wanted, group):
                return False
            flags = wanted
        elif group.is_reduction and not is_worth(fine, flags, group):
            return False
        if not all(self._fits(ref, number, fine, flags) for ref in refs):
            return False
        refine(group, fine, flags)
        return True

    def _joins_rows(
        self, number: int, group: Loops, refs: list[Ref], shape: tuple[Dim, ...]
    ) -> bool:
        if not group.is_reduction or total(shape) != total(group.kept_shape):
            return False
        kept = refinement(group.kept_shape, shape)
        if kept is None:
            return False
        fine, flags = rows_refined(group, kept)
        if not all(self._fits(ref, number, kept, None) for ref in refs):
            return False
        refine(group, fine, flags)
        return True

    def _fits(
        self, ref: Ref, number: int, fine: tuple[Dim, ...], flags: tuple[bool, ...] | None
    ) -> bool:
        """Whether ``ref`` may be used at the index ``fine`` of the group ``number``."""
        if self._made[ref.buffer] < number:
            return True
        local = self._local.get(ref.buffer)
        if local is None or local.group != number:
            return False
        used = ref.layout.split(fine)
        if not local.row and flags is not None:
            return used.same_place(local.layout.split(fine))
        if local.row and flags is None:
            return used.same_place(local.layout.split(fine))
        if local.row and flags is not None:
            kept = tuple(e for e, r in zip(fine, flags, strict=True) if not r)
            steps = tuple(s for s, r in zip(used.strides, flags, strict=True) if not r)
            still = all(s == 0 for s, r in zip(used.strides, flags, strict=True) if r)
            rows = Layout(kept, steps, used.offset)
            return still and rows.same_place(local.layout.split(kept))
        return False

    def _use(
        self, operand: Ref | Index, number: int, row: bool, shape: tuple[Dim, ...]
    ) -> str | Access | Index:
        """How a statement of group ``number``, one over ``shape``, names ``operand``."""
        group = self._loops(number)
        if isinstance(operand, Index):
            place = access("", Layout(shape, operand.strides), torch.int64, group, row)
            return Index(place.strides, operand.offset)
        local = self._local.get(operand.buffer)
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
