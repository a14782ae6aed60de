"""Which group an operation runs in: one that makes its operands, or a later one, or a new one.

An operation may run in the last group that made one of its operands, or in any later one; it joins
if its index space is the group's (or the group's rows), so that each operand computed there is used
at the element where it was computed.
"""

from __future__ import annotations

from dataclasses import dataclass

from dovetail.compiler.groups.layout import Dim, Layout, refinement, total
from dovetail.compiler.groups.model import Group, Loops, Ref
from dovetail.compiler.groups.refine import is_worth, refine, rows_refined, spread

__all__ = ["Local", "Places"]

#: Buffers that one nest touches at most: each is a pointer that wants a register.
MOST_BUFFERS = 48


@dataclass(frozen=True)
class Local:
    """Where a buffer's elements are computed: usable there without memory."""

    group: int
    statement: str
    layout: Layout
    row: bool


class Places:
    """What is known of the groups so far: where each buffer is made, and what touches what."""

    def __init__(self, groups: list[Group]) -> None:
        self.groups = groups
        self.made: dict[str, int] = {}
        self.local: dict[str, Local] = {}
        self.touched: dict[int, set[str]] = {}
        self.last_call = -1
        self._latest: dict[Dim, int] = {}

    def loops(self, number: int) -> Loops:
        """The group of that number, which is no call."""
        group = self.groups[number]
        assert isinstance(group, Loops)
        return group

    def find(self, refs: list[Ref], shape: tuple[Dim, ...], mask: tuple[bool, ...] = ()) -> int:
        """The group that the operation runs in: one that stands already, or a new one."""
        last = max((self.made[ref.buffer] for ref in refs), default=-1)
        beside = self._latest.get(total(shape), -1)
        number = -1
        for candidate in (last, beside if beside > max(last, self.last_call) else -1):
            if candidate >= 0 and self._joins(candidate, refs, shape, mask):
                number = candidate
                break
        if number < 0:
            number = self._open(shape, mask)
        self.touched[number].update(ref.buffer for ref in refs)
        group = self.loops(number)
        self._latest[total(group.shape)] = number
        if group.is_reduction:
            self._latest[total(group.kept_shape)] = number
        return number

    def _open(self, shape: tuple[Dim, ...], mask: tuple[bool, ...]) -> int:
        """A new group, last in order."""
        kept = mask or (False,) * len(shape)
        flags = tuple(m for e, m in zip(shape, kept, strict=True) if e != 1)
        self.groups.append(Loops(tuple(e for e in shape if e != 1), flags))
        self.touched[len(self.groups) - 1] = set()
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
        return len(self.touched[number] | {ref.buffer for ref in refs}) > MOST_BUFFERS

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
        if self.made[ref.buffer] < number:
            return True
        local = self.local.get(ref.buffer)
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
