"""A multiplier's gates, evaluated on many operand pairs at once: one bit of a byte for each."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np
import numpy.typing as npt

from dovetail.multipliers.circuits.gates import AND, NOT, OR, WIRE, XOR, Gates, Word
from dovetail.multipliers.operands import Bits, IntArray

__all__ = ["Circuit", "circuit_of"]

_PAIRS = 1 << 16  # at once: 8 KiB a net, so that what is alive stays in the cache

Plane = npt.NDArray[np.uint8]


@dataclass(frozen=True)
class Circuit:
    """``f(a, w)`` of a combinational circuit, over int64 arrays.

    ``program`` lists the gates in the order of evaluation: (net, kind, first, second, the nets that
    nothing reads afterwards). ``first``, ``second`` and ``result`` are the nets of the operands and
    of the product, the lowest bit first; nets 0 and 1 are the constants.
    """

    program: tuple[tuple[int, int, int, int, tuple[int, ...]], ...]
    first: tuple[int, ...]
    second: tuple[int, ...]
    result: tuple[int, ...]
    signed: bool
    __name__: str

    @property
    def bits(self) -> Bits:
        """The operands' widths."""
        return len(self.first), len(self.second)

    def __call__(self, first: IntArray, second: IntArray) -> IntArray:
        a, w = np.broadcast_arrays(np.asarray(first), np.asarray(second))
        shape, a, w = a.shape, a.ravel(), w.ravel()
        products = np.empty(a.size, dtype=np.int64)
        for at in range(0, a.size, _PAIRS):
            part = slice(at, at + _PAIRS)
            products[part] = self._some(a[part], w[part])
        return products.reshape(shape)

    def _some(self, first: IntArray, second: IntArray) -> IntArray:
        size = (first.size + 7) // 8
        planes: dict[int, Plane] = {0: np.zeros(size, np.uint8), 1: np.full(size, 255, np.uint8)}
        for nets, values in ((self.first, first), (self.second, second)):
            for place, net in enumerate(nets):
                planes[net] = np.packbits((values >> place & 1).astype(np.uint8))
        for net, kind, a, b, dead in self.program:
            if kind == AND:
                planes[net] = planes[a] & planes[b]
            elif kind == OR:
                planes[net] = planes[a] | planes[b]
            elif kind == XOR:
                planes[net] = planes[a] ^ planes[b]
            else:
                planes[net] = ~planes[a] if kind == NOT else planes[a]
            for unread in dead:
                del planes[unread]
        products = np.zeros(first.size, dtype=np.int64)
        for place, net in enumerate(self.result):
            bit = np.unpackbits(planes[net], count=first.size).astype(np.int64) << place
            top = self.signed and place == len(self.result) - 1
            products += -bit if top else bit
        return products


def circuit_of(
    gates: Gates,
    order: Sequence[int],
    operands: Sequence[Word],
    result: Word,
    signed: bool,
    name: str,
) -> Circuit:
    """The circuit of the nets of ``order``, each after those that it reads.

    >>> gates = Gates()
    >>> a, w = gates.net(), gates.net()
    >>> circuit_of(gates, [gates.both(a, w)], [[a], [w]], [gates.both(a, w), 0], False, "one")(1, 1)
    array(1)
    """
    kept = {0, 1, *operands[0], *operands[1], *result}
    program = []
    for net in reversed(order):
        kind, a, b = gates.driven[net]
        dead = tuple({read for read in (a, b) if read not in kept})
        kept.update(dead)
        program.append((net, kind, a, b, dead))
    assert all(kind in (WIRE, NOT, AND, OR, XOR) for _, kind, *_ in program)
    return Circuit(
        tuple(reversed(program)),
        tuple(operands[0]),
        tuple(operands[1]),
        tuple(result),
        signed,
        name,
    )
