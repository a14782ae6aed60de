"""What an accumulator makes of an exact sum, in ONNX operators."""

from __future__ import annotations

import numpy as np

from dovetail.accumulators import Accumulator, IntAccumulator
from dovetail.errors import DovetailError
from dovetail.interchange.onnx.nodes import Nodes

__all__ = ["reduced"]


def reduced(nodes: Nodes, sums: str, acc: Accumulator | None, bound: int, where: str) -> str:
    """The register's end, in int64, from exact sums in int64 of magnitude up to ``bound``.

    Refused where the end does not follow from the sum.

    >>> from dovetail.accumulators import accumulator
    >>> nodes = Nodes()
    >>> _ = reduced(nodes, "x", accumulator("int16"), 2**20, "fc")
    >>> [node.op_type for node in nodes.made if node.op_type != "Constant"]
    ['Add', 'Mod', 'Sub']
    """
    if acc is None or acc.holds(bound):
        return sums
    if not isinstance(acc, IntAccumulator) or not acc.takes_sum(bound):
        raise DovetailError(f"{where}: acc={acc} {_reason(acc)}")
    low, high = acc.range
    if acc.overflow == "saturate":
        return nodes("Clip", sums, *(nodes.constant(np.int64(end)) for end in (low, high)))
    if acc.bits == 64:
        return sums
    shift = nodes.constant(np.int64(-low))
    whole = nodes("Mod", nodes("Add", sums, shift), nodes.constant(np.int64(1 << acc.bits)))
    return nodes("Sub", whole, shift)


def _reason(acc: Accumulator) -> str:
    if isinstance(acc, IntAccumulator):
        return (
            "saturates at each step, and ONNX sums in no order: the nearest that can be written "
            f"are 'int{acc.bits}(saturate, end)', 'int{acc.bits}' and a register that holds every "
            "sum"
        )
    return (
        "rounds at each step, and ONNX sums in no order: the nearest that can be written is an "
        "integer register, such as 'int32'"
    )
