"""What the formats of an operation make of its weight."""

from __future__ import annotations

from torch import Tensor

from dovetail.emulation.casting import cast_slot
from dovetail.formats import NVFP4, Format, IntFormat
from dovetail.recovery.operations import Operation

__all__ = ["rounded_weight", "rounds_rows_alone", "weight_formats"]


def weight_formats(op: Operation) -> list[tuple[str, Format]]:
    """The formats that a weight is rounded to one after the other, with their slots."""
    if op.site is None:
        return []
    arithmetic = op.site.arithmetic
    slots = (("weight_storage", arithmetic.weight_storage), ("weight", arithmetic.weight))
    return [(slot, fmt) for slot, fmt in slots if fmt is not None]


def rounded_weight(op: Operation, weight: Tensor) -> Tensor:
    """A weight, sparse and transformed already, as it is multiplied."""
    assert op.site is not None
    for slot, fmt in weight_formats(op):
        weight = cast_slot(weight, fmt, slot, op.site, op.module)
    return weight


def rounds_rows_alone(op: Operation) -> bool:
    """Whether each output's weights are rounded without regard to the others'."""
    formats = [fmt for _, fmt in weight_formats(op)]
    if any(isinstance(fmt, NVFP4) for fmt in formats):
        return False
    integers = [fmt for fmt in formats if isinstance(fmt, IntFormat)]
    return all(fmt.group is not None or fmt.axis_for("weight") == 0 for fmt in integers)
