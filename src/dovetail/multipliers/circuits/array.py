"""Arrays of partial products as gates: compressed column by column with full and half adders.

Column k gathers the bits of weight ``2**k``. A product bit of negative weight enters inverted, and
what that adds joins the constant (Baugh and Wooley 1973). In every column the three bits that are
there first go through a full adder, until one is left; two go through a half adder.
"""

from __future__ import annotations

import heapq
from functools import lru_cache

import numpy as np

from dovetail.multipliers.circuits.circuit import Circuit, circuit_of
from dovetail.multipliers.circuits.gates import NOT, XOR, Gates
from dovetail.multipliers.operands import Bits, IntArray

__all__ = ["array_circuit", "sign_constant", "weighted_circuit"]


@lru_cache(maxsize=512)
def array_circuit(mask: int, bits: Bits, signed: bool, constant: int = 0) -> Circuit:
    """The circuit of the partial products that ``mask`` keeps, and a constant added to their sum.

    The product has ``sum(bits)`` bits, which hold every sum of partial products; that they hold it
    with the constant too is for the caller to know.

    >>> array_circuit(0xFFFF, (4, 4), True)(-8, [7, -8])
    array([-56,  64])
    """
    flat = [mask >> index & 1 for index in range(bits[0] * bits[1])]
    return weighted_circuit(np.array(flat).reshape(bits), bits, signed, constant)


def weighted_circuit(times: IntArray, bits: Bits, signed: bool, constant: int = 0) -> Circuit:
    """As `array_circuit`, with each partial product counted 0, 1 or 2 times.

    >>> weighted_circuit(np.array([[0, 2], [1, 1]]), (2, 2), False)(3, 3)
    array(10)
    """
    gates = Gates()
    first, second = ([gates.net() for _ in range(width)] for width in bits)
    width = sum(bits)
    columns = _Columns(gates, width)
    for i, j in np.argwhere(times):
        bit = gates.both(first[i], second[j])
        inverted = signed and (i == bits[0] - 1) != (j == bits[1] - 1)
        columns.add(int(i + j + times[i, j] - 1), gates.inverse(bit) if inverted else bit)
    result = columns.total((constant + sign_constant(times, bits, signed)) % (1 << width))
    order = _needed(gates, result, {0, 1, *first, *second})
    return circuit_of(gates, order, [first, second], result, signed, "array")


def sign_constant(times: IntArray, bits: Bits, signed: bool) -> int:
    """What is added because bits of negative weight enter inverted: ``-x = (1 - x) - 1``.

    >>> sign_constant(np.ones((2, 2), dtype=np.int64), (2, 2), True)
    -4
    """
    if not signed:
        return 0
    column = np.add.outer(*(np.arange(width) for width in bits))
    negative = np.zeros(bits, dtype=bool)
    negative[-1, :-1] = negative[:-1, -1] = True
    return -int((times * negative << column).sum())


class _Columns:
    """Bits by their weight, each with the time at which it is there, in unit-gate delays."""

    def __init__(self, gates: Gates, width: int) -> None:
        self.gates = gates
        self.heaps: list[list[tuple[int, int]]] = [[] for _ in range(width)]
        self.times: dict[int, int] = {}

    def add(self, column: int, net: int) -> None:
        if column < len(self.heaps) and net != 0:
            heapq.heappush(self.heaps[column], (self.time(net), net))

    def time(self, net: int) -> int:
        """Longest path to a net: 0 for inverters, 2 for exclusive-or, 1 for other gates."""
        if net not in self.times:
            kind, a, b = self.gates.driven[net]
            if a == b == 0:  # an operand's bit, or a constant
                self.times[net] = 0
            else:
                own = 0 if kind == NOT else 2 if kind == XOR else 1
                self.times[net] = max(self.time(a), self.time(b)) + own
        return self.times[net]

    def total(self, constant: int) -> list[int]:
        """The sum's bits."""
        result = []
        for column, heap in enumerate(self.heaps):
            if constant >> column & 1:
                self.add(column, 1)
            while len(heap) > 1:
                nets = [heapq.heappop(heap)[1] for _ in range(min(3, len(heap)))]
                last, carry = self._adder(*nets)
                heapq.heappush(heap, (self.time(last), last))
                self.add(column + 1, carry)
            result.append(heap[0][1] if heap else 0)
        return result

    def _adder(self, a: int, b: int, c: int = 0) -> tuple[int, int]:
        word, carry = self.gates.add([a], [b], c)
        return word[0], carry


def _needed(gates: Gates, result: list[int], given: set[int]) -> list[int]:
    """The gates that the result reads, in the order in which they were made."""
    wanted, stack = set(given), list(result)
    order = []
    while stack:
        net = stack.pop()
        if net not in wanted:
            wanted.add(net)
            order.append(net)
            stack += gates.driven[net][1:]
    return sorted(order)
