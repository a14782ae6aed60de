"""Products as ``g(a) * h(w)`` plus one byte looked up by the class of an operand.

Approximate circuits err in few operand bits. Beside a product of the operands, truncated perhaps,
what is left of such a table has few distinct columns: the second operand's class and the first's
code say which byte to add. Or it has few distinct rows: the same with the operands exchanged.
"""

from __future__ import annotations

from dataclasses import dataclass
from functools import lru_cache

import numpy as np

from dovetail.multipliers.base import Multiplier
from dovetail.multipliers.operands import IntArray, operand_values

__all__ = ["ClassForm", "Lookups", "class_form"]

CLASSES = 16  # that one lookup tells apart
STEP = 127  # the most that one lookup's bytes are multiplied by


@dataclass(frozen=True, eq=False)
class Lookups:
    """``constant(w) + sum_l step[l] * entry[l, row code, class[l, lane code]]``.

    ``entry`` is ``[lookups, codes, 16]`` (0 to 255), ``classes`` ``[lookups, codes]``, ``step``
    ``[lookups]`` (1 to 127) and ``constant`` ``[codes]``, all int64.
    """

    entry: IntArray
    classes: IntArray
    step: IntArray
    constant: IntArray

    @property
    def count(self) -> int:
        """Bytes looked up per product."""
        return len(self.entry)

    def table(self) -> IntArray:
        """What is looked up, ``[row codes, lane codes]``, without the constants."""
        found = [s * e[:, c] for e, c, s in zip(self.entry, self.classes, self.step, strict=True)]
        return np.asarray(sum(found))


@dataclass(frozen=True, eq=False)
class ClassForm:
    """``f(a, w) = first(a) * second(w) +`` either of two lookups, exactly.

    ``by_second``: rows are first operands, classes those of the second; ``by_first`` the other way
    round. Both add their ``constant`` of the second operand. One of them may be lacking.
    """

    first: IntArray
    second: IntArray
    by_second: Lookups | None
    by_first: Lookups | None

    @property
    def sides(self) -> tuple[Lookups | None, Lookups | None]:
        """``(by_second, by_first)``."""
        return self.by_second, self.by_first

    def table(self) -> IntArray:
        """The products; of both lookups where there are two, which are equal then."""
        found = [
            side.constant + (side.table().T if turned else side.table())
            for turned, side in enumerate(self.sides)
            if side is not None
        ]
        if any(not np.array_equal(found[0], other) for other in found[1:]):
            raise AssertionError("the two lookups of a form differ")
        return np.asarray(np.outer(self.first, self.second) + found[0])


@lru_cache(maxsize=256)
def class_form(m: Multiplier, most: int, skip_lowest: bool = False) -> ClassForm | None:
    """The form of fewest lookups, of at most ``most`` by the classes of one operand, or None.

    For operands of at most 8 bits. With ``skip_lowest`` (signed operands) the code of the lowest
    value of both operands is left out, as in `int8_factors`. The products beside the lookups are
    those of the operands without some of their lowest bits. All pairs were compared.

    >>> from dovetail.multipliers import multiplier
    >>> form = class_form(multiplier("mul8s_1KVA"), most=2)
    >>> form.by_second.count, form.by_first.count
    (1, 1)
    >>> class_form(multiplier("mitchell"), most=2) is None
    True
    """
    if max(m._width()) > 8:
        return None
    kept = [np.arange(1 << bits) for bits in m._width()]
    if skip_lowest and m.signed:
        kept = [np.delete(codes, codes.size // 2) for codes in kept]
    values = [operand_values(n, m.signed)[c] for n, c in zip(m._width(), kept, strict=True)]
    table = m._products[np.ix_(*kept)]
    best, least = None, 2 * most + 2
    for first, second in _bases(table, values, CLASSES * most):
        rest = table - np.outer(first, second)
        constant = rest.min(axis=0)  # of the second operand: it costs nothing
        sides = [_lookups(rest - constant, constant, most), _lookups(rest.T, constant, most, True)]
        count = sum(most + 1 if side is None else side.count for side in sides)
        if count < least:
            best, least = ClassForm(first, second, sides[0], sides[1]), count
    return None if best is None else _whole(best, table, kept, m._width())


def _bases(
    table: IntArray, values: list[IntArray], classes: int
) -> list[tuple[IntArray, IntArray]]:
    """Products that leave few classes of an operand, fewest first.

    Random projections of the columns (less a constant each) and of the rows tell how many there
    are: equal ones always agree, and different ones hardly ever.
    """
    rng = np.random.default_rng(0)
    down, along = (rng.integers(-(1 << 20), 1 << 20, size) for size in table.shape)
    balanced = down - np.roll(down, 1)  # sums to zero
    columns, rows = balanced @ table, table @ along
    found: list[tuple[int, int, IntArray, IntArray]] = []
    for first in _truncations(values[0]):
        for second in _truncations(values[1]):
            counts = (
                np.unique(columns - (balanced @ first) * second).size,
                np.unique(rows - first * (second @ along)).size,
            )
            if min(counts) <= classes:
                both = sum(min(count, classes + 1) for count in counts)
                found.append((both, len(found), first, second))
    return [(first, second) for _, _, first, second in sorted(found, key=lambda f: f[:2])[:8]]


def _truncations(values: IntArray) -> list[IntArray]:
    """The values without their lowest bits: none, one, ... all of them."""
    width = int(np.abs(values).max()).bit_length()
    return [values & -(1 << dropped) for dropped in range(width)] + [np.zeros_like(values)]


def _lookups(rest: IntArray, constant: IntArray, most: int, turned: bool = False) -> Lookups | None:
    """``rest [row, lane]`` by the classes of its lanes; ``turned``: of rows less the constant."""
    if turned:
        rest = rest - constant[:, None]
    distinct, label = np.unique(np.ascontiguousarray(rest.T), axis=0, return_inverse=True)
    label = label.ravel()
    digits = [(1, rest)] if rest.max() <= 255 else [(1, rest % STEP), (STEP, rest // STEP)]
    # Where lookups share the classes, each has one, its last, for those that others tell apart.
    whole = len(distinct) <= CLASSES
    each = CLASSES if whole else CLASSES - 1
    parts = -(-len(distinct) // each)
    if digits[-1][1].max() > 255 or parts * len(digits) > most:
        return None
    entries, classes, steps = [], [], []
    for step, digit in digits:
        for part in range(parts):
            inside = label // each == part
            entry = np.zeros((len(rest), CLASSES), dtype=np.int64)
            for lane in np.flatnonzero(inside):
                entry[:, label[lane] % each] = digit[:, lane]
            entries.append(entry)
            classes.append(np.where(inside, label % each, CLASSES - 1))
            steps.append(step)
    return Lookups(np.array(entries), np.array(classes), np.array(steps), constant)


def _whole(
    form: ClassForm, table: IntArray, kept: list[IntArray], widths: tuple[int, ...]
) -> ClassForm | None:
    """``form`` over all codes, zero on those left out; None unless it gives back the table."""
    if not np.array_equal(form.table(), table):
        return None

    def spread(values: IntArray, axis: int, operand: int) -> IntArray:
        shape = list(values.shape)
        shape[axis] = 1 << widths[operand]
        out = np.zeros(shape, dtype=np.int64)
        np.moveaxis(out, axis, 0)[kept[operand]] = np.moveaxis(values, axis, 0)
        return out

    def lookups(side: Lookups | None, row: int) -> Lookups | None:
        return side and Lookups(
            spread(side.entry, 1, row),
            spread(side.classes, 1, 1 - row),
            side.step,
            spread(side.constant, 0, 1),
        )

    return ClassForm(
        spread(form.first, 0, 0),
        spread(form.second, 0, 1),
        lookups(form.by_second, 0),
        lookups(form.by_first, 1),
    )
