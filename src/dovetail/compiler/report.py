"""What a compiled module runs: bytes moved and FLOPs by operator, by map and by statement."""

from __future__ import annotations

from collections import defaultdict
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import asdict, dataclass
from typing import Any

from dovetail.compiler.groups.layout import total
from dovetail.compiler.groups.model import Access, Call, Loops, Program, Reduction, Ref
from dovetail.compiler.groups.show import line
from dovetail.compiler.passes.pipeline import Pipeline

__all__ = ["Report", "Row", "rows_of"]

LEVELS = ("operator", "map", "scalar")


@dataclass(frozen=True)
class Row:
    """One node: ``bytes`` read and written in memory, and floating-point operations, of one run.

    ``seconds`` are those of a run, where they were measured: of rows of the level ``map``.
    """

    function: str
    level: str
    name: str
    kind: str
    bytes: Any
    flops: Any
    seconds: float | None = None


@dataclass(frozen=True)
class Report:
    """The rows of all functions, the seconds of each pass, and the bytes of each arena.

    ``arena`` are the intermediate values within a function, ``saved`` those that the forward
    function leaves for the backward one: bytes, or expressions of sizes known at the call.
    ``capture`` says whether the captured graphs were found on disk, are kept there, or why not.
    ``checked`` says whether it was compared with eager: in this process, in an earlier one, or not.
    ``fallbacks`` are the function, the node and the operator of what is called in eager mode.
    """

    rows: tuple[Row, ...]
    seconds: dict[str, float]
    arena: dict[str, int]
    saved: Any
    capture: str
    checked: str
    fallbacks: tuple[tuple[str, str, str], ...]

    @staticmethod
    def of(variant: Any, pipeline: Pipeline, timing: bool = False) -> Report:
        """The report of a compiled variant; with ``timing`` every map is timed."""
        units = variant.units
        taken: list[Mapping[int, float]] = [{} for _ in units]
        if timing:
            from dovetail.compiler.timing import group_seconds

            samples = zip(units, variant.samples(), strict=True)
            taken = [group_seconds(unit, inputs) for unit, inputs in samples]
        pairs = zip(units, taken, strict=True)
        rows = tuple(row for unit, seconds in pairs for row in rows_of(unit.program, seconds))
        arena = {unit.name: unit.arena for unit in units}
        seconds, saved = dict(pipeline.seconds), variant.record.saved
        eager = tuple((unit.name, *found) for unit in units for found in unit.fallbacks)
        said = variant.shelf.says, variant.checked
        return Report(rows, seconds, arena, saved, *said, eager)

    def at(self, level: str) -> list[Row]:
        """The rows of one level: operator, map or scalar."""
        return [row for row in self.rows if row.level == level]

    def to_dict(self) -> dict[str, Any]:
        """Everything, as plain values."""
        return asdict(self)

    def table(self, level: str = "map") -> str:
        """The rows of a level as text."""
        head: tuple[str, ...] = ("function", "name", "kind", "bytes", "flops")
        found = self.at(level)
        rows = [tuple(str(getattr(r, h)) for h in head) for r in found]
        if any(r.seconds is not None for r in found):
            head = (*head, "us")
            times = ("" if r.seconds is None else f"{r.seconds * 1e6:.1f}" for r in found)
            rows = [(*row, time) for row, time in zip(rows, times, strict=True)]
        return _aligned(head, rows)

    def passes(self) -> str:
        """The seconds of each pass as text, in the order they ran."""
        rows = [(name, f"{seconds:.3f}") for name, seconds in self.seconds.items()]
        return _aligned(("pass", "seconds"), rows)

    def __str__(self) -> str:
        return self.table()


def _aligned(head: tuple[str, ...], rows: Sequence[tuple[str, ...]]) -> str:
    widths = [max(map(len, column)) for column in zip(head, *rows, strict=True)]
    padded = [[w.ljust(n) for w, n in zip(r, widths, strict=True)] for r in (head, *rows)]
    return "\n".join("  ".join(words).rstrip() for words in padded)


def rows_of(program: Program, taken: Mapping[int, float] | None = None) -> Iterator[Row]:
    """The rows of one function, at every level; ``taken`` are the seconds of groups by number."""
    taken = taken or {}
    operators: dict[str, list[Any]] = defaultdict(lambda: [0, 0])
    for number, group in enumerate(program.groups):
        spent = taken.get(number)
        if isinstance(group, Call):
            moved, flops = _call_bytes(group), _call_flops(group)
            yield Row(program.name, "map", f"{number} {group.name}", group.key, moved, flops, spent)
            operators[group.name][0] += moved
            operators[group.name][1] += flops
        elif isinstance(group, Loops):
            moved = sum(_bytes(group, access) for access in _distinct(group))
            kind = line(group)
            label = f"{number} {group.body[-1].origin}"
            yield Row(program.name, "map", label, kind, moved, group.operations, spent)
            for row in _statements(program.name, group):
                yield row
                operators[row.name][0] += row.bytes
                operators[row.name][1] += row.flops
    for name, (moved, flops) in operators.items():
        yield Row(program.name, "operator", name, "operator", moved, flops)


def _statements(function: str, group: Loops) -> Iterator[Row]:
    for statement in group.body:
        single = isinstance(statement, Reduction)
        operands = [statement.operand] if single else statement.operands  # type: ignore[union-attr]
        reads = [o for o in operands if isinstance(o, Access)]
        writes = [place for name, place in group.stores if name == statement.name]
        moved = sum(_bytes(group, access) for access in (*reads, *writes))
        once = statement.row and not single
        count = total(group.kept_shape if once else group.shape)
        code = statement.kind if isinstance(statement, Reduction) else statement.code
        yield Row(function, "scalar", statement.origin, code, moved, count * statement.flops)


def _distinct(group: Loops) -> set[Access]:
    found = {place for _, place in group.stores}
    for statement in group.body:
        single = isinstance(statement, Reduction)
        operands = [statement.operand] if single else statement.operands  # type: ignore[union-attr]
        found |= {o for o in operands if isinstance(o, Access)}
    return found


def _bytes(group: Loops, access: Access) -> Any:
    """The memory behind an access, each element once."""
    extents = [e for e, s in zip(group.shape, access.strides, strict=True) if s != 0]
    return total(extents) * access.dtype.itemsize


def _refs(values: Sequence[Any]) -> list[Ref]:
    return [v for v in values if isinstance(v, Ref)]


def _call_bytes(call: Call) -> Any:
    refs = _refs([*call.inputs, *call.outputs])
    return sum(total(ref.shape) * ref.dtype.itemsize for ref in refs)


def _call_flops(call: Call) -> Any:
    """Two per multiply-add of a product of matrices or a convolution; others are not counted."""
    kind, inputs, outputs = call.key.split(".")[1], _refs(call.inputs), _refs(call.outputs)
    if kind in ("mm", "bmm", "addmm", "baddbmm", "linear", "matmul"):
        depth = inputs[0 if kind not in ("addmm", "baddbmm") else 1].shape[-1]
        return 2 * total(outputs[0].shape) * depth
    if kind in ("convolution", "conv"):
        return 2 * total(outputs[0].shape) * total(inputs[1].shape[1:])
    if kind == "_convolution_pointwise":
        weight = inputs[2 if call.key.endswith(".binary") else 1]
        return 2 * total(outputs[0].shape) * total(weight.shape[1:])
    if kind == "convolution_backward":
        return 2 * total(inputs[0].shape) * total(inputs[2].shape[1:]) * len(outputs)
    if "scaled_dot_product" in kind:
        query, key = inputs[0].shape, inputs[1].shape
        return 4 * total(query) * key[-2]
    return 0
