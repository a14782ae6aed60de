"""Bytes that operations read and write, and what the memories take for them."""

from __future__ import annotations

import math
from collections.abc import Iterator
from dataclasses import dataclass
from typing import TYPE_CHECKING

import torch

from dovetail.costs.tables import Tables
from dovetail.emulation.planned import PlannedOp
from dovetail.formats import Format
from dovetail.kinds import KINDS

if TYPE_CHECKING:
    from dovetail.costs.files import Memory

__all__ = ["Moved", "bytes_moved", "energy_of_memory", "rule_of_memory"]


@dataclass(frozen=True)
class Moved:
    """Bits of an operand's element, weights kept, their bytes, and bytes of activations by slot."""

    input_bits: float
    weight_bits: float
    weights: float | None
    weight_bytes: float | None
    activations: dict[str, float]

    @property
    def activation_bytes(self) -> float:
        """All of them."""
        return math.fsum(self.activations.values())


def bytes_moved(op: PlannedOp, density: float | None, dtype: torch.dtype) -> Moved:
    """What an operation reads and writes; an operand without a format counts its dtype's bits."""
    arithmetic, bits = op.arithmetic, dtype.itemsize * 8
    weights = size = None
    if not KINDS[op.kind].is_product:
        weights = size = 0.0
    elif density is not None and op.weight_shape is not None:
        # The second operand of a matmul is computed, not stored.
        weights = 0.0 if op.kind == "matmul" else math.prod(op.weight_shape) * density
        size = weights * _bits(arithmetic.weight_storage or arithmetic.weight, bits) / 8
    activations = {
        slot: op.elements[slot] * _bits(getattr(arithmetic, slot), bits) / 8
        for slot in KINDS[op.kind].activations
        if slot in op.elements
    }
    return Moved(
        _bits(arithmetic.input, bits), _bits(arithmetic.weight, bits), weights, size, activations
    )


def energy_of_memory(
    tables: Tables, op: PlannedOp, moved: Moved, flops: float | None
) -> float | None:
    """Weights and inputs read once a call, outputs written once; None without a memory for them."""
    if moved.weight_bytes is None:
        return None
    total = 0.0
    parts = [(moved.weight_bytes, moved.weight_bytes * op.calls, tables.weights)]
    # Of several calls, each moves its share.
    parts += [(size / op.calls, size, tables.activations) for size in moved.activations.values()]
    for held, size, name in parts:
        memory = tables.memory[name] if name is not None else _smallest(tables, held)
        if memory is None:
            return None
        total += size * memory.energy_pj_per_byte
    if tables.operands is not None and flops is not None:
        bits = moved.input_bits + moved.weight_bits + 2 * _SUM_BITS
        total += flops * bits / 8 * tables.memory[tables.operands].energy_pj_per_byte
    return total


def rule_of_memory(tables: Tables) -> Iterator[str]:
    """The rule in words."""
    if not tables.memory:
        yield "no memory is declared: reading and writing tensors has no known energy"
        return
    weights, activations = (
        "the smallest memory that holds it" if name is None else name
        for name in (tables.weights, tables.activations)
    )
    yield (
        f"memory: at each call a weight is read once from {weights}, an input is read and an "
        f"output written once, in {activations}"
    )
    if tables.operands is not None:
        passed = f"two operands, and a partial sum of {_SUM_BITS} bits there and back"
        yield f"at each product {passed} pass {tables.operands}"


_SUM_BITS = 32


def _smallest(tables: Tables, size: float) -> Memory | None:
    fitting = [m for m in tables.memory.values() if m.bytes is None or m.bytes >= size]
    return min(fitting, key=lambda m: math.inf if m.bytes is None else m.bytes, default=None)


def _bits(fmt: Format | None, otherwise: int) -> float:
    return otherwise if fmt is None else fmt.bytes_per_element * 8
