"""Multipliers given by the table of all their products."""

from __future__ import annotations

import hashlib
from dataclasses import dataclass
from functools import cached_property
from typing import Any

import numpy as np
import numpy.typing as npt
import torch

from dovetail._spelling import spell_call
from dovetail.errors import DovetailError
from dovetail.multipliers.base import MAX_TABLE_BITS, Multiplier
from dovetail.multipliers.circuits.circuit import Circuit
from dovetail.multipliers.kept import keep
from dovetail.multipliers.operands import Bits, IntArray, as_bits, as_signed, spell_bits

__all__ = ["Table", "from_table"]


@dataclass(frozen=True, eq=False, repr=False)
class Table(Multiplier):
    """``f(a, w) = values[code(a), code(w)]``; equal tables are equal whatever they are called."""

    values: npt.NDArray[np.int32]
    bits: Bits
    signed: bool
    label: str = "table"
    gates: Circuit | None = None

    def __post_init__(self) -> None:
        self.values.setflags(write=False)

    def __repr__(self) -> str:
        key = f"sha256:{self.content_key[:16]}"
        return spell_call("table", key, bits=spell_bits(self.bits), signed=self.signed)

    @property
    def name(self) -> str:
        """The name of the file or function the table came from, else ``table``."""
        return self.label

    @property
    def circuit(self) -> Circuit | None:
        """The gates of the file that the table was made from, if that described any."""
        return self.gates

    @cached_property
    def content_key(self) -> str:
        """A sha256 of the table, its operand widths and signedness."""
        head = f"table {self.bits} {self.signed} ".encode()
        return hashlib.sha256(head + self.values.astype("<i4").tobytes()).hexdigest()

    def _product(self, first: IntArray, second: IntArray) -> IntArray:
        a, w = first & (1 << self.bits[0]) - 1, second & (1 << self.bits[1]) - 1
        return np.asarray(self.values[a, w], dtype=np.int64)

    def __setstate__(self, state: dict[str, Any]) -> None:
        super().__setstate__(state)
        self.values.setflags(write=False)
        keep(self)


def from_table(
    table: Any, signed: bool = True, bits: int | Bits | None = None, label: str = "table"
) -> Table:
    """The multiplier whose products are ``table[code(first), code(second)]``.

    ``table`` is a ``2**a x 2**b`` array or tensor of any integer dtype whose entries fit int32,
    rows and columns in code order (0..127, -128..-1 for signed bytes). Refused otherwise.

    >>> from_table([[0, 0], [0, 1]], signed=False)(1, [0, 1])
    array([0, 1])
    """
    values = table.detach().cpu().numpy() if isinstance(table, torch.Tensor) else np.asarray(table)
    width = _table_bits(values.shape, None if bits is None else as_bits(bits, highest=20))
    if values.dtype.kind not in "iu":
        raise DovetailError(
            f"the table holds {values.dtype}; a multiplier's products are integers "
            f"(convert with .astype('int32') if these are)"
        )
    limit = np.iinfo(np.int32)
    low, high = int(values.min()), int(values.max())
    if low < limit.min or high > limit.max:
        raise DovetailError(
            f"the table holds {low if low < limit.min else high}; products must fit int32, "
            f"{limit.min}..{limit.max}"
        )
    return keep(Table(values.astype(np.int32), width, as_signed(signed), label))


def _table_bits(shape: tuple[int, ...], bits: Bits | None) -> Bits:
    """The operand widths of a table of that shape, checked against ``bits`` when given."""
    given = "x".join(str(size) for size in shape) or "scalar"
    if bits is not None:
        wanted = (1 << bits[0], 1 << bits[1])
        if shape != wanted:
            raise DovetailError(
                f"the table is {given}; expected {wanted[0]}x{wanted[1]} for "
                f"bits={spell_bits(bits)}"
            )
    if len(shape) != 2 or any(size < 2 or size & (size - 1) for size in shape):
        raise DovetailError(
            f"the table is {given}; expected 2**a rows (codes of the first operand, the input) by "
            f"2**b columns (the second, the weight), 256x256 for 8-bit operands"
        )
    width = (shape[0].bit_length() - 1, shape[1].bit_length() - 1)
    if sum(width) > MAX_TABLE_BITS:
        raise DovetailError(
            f"the table is {given}; tables stop at 12 + 12 bits (4096x4096). Give a callable or a "
            f"C function instead: it is evaluated on the operands"
        )
    return width
