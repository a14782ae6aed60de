"""The unit-gate model: area and delay of a circuit before there is any silicon.

A gate of two inputs counts 1 in area and 1 in delay, an exclusive-or 2 and 2, an inverter nothing
(A. Tyagi, "A Reduced-Area Scheme for Carry-Select Adders", IEEE Trans. Computers 1993). A full
adder is then 7 gates and 4 delays, a half adder 3 and 2.
"""

from __future__ import annotations

from dataclasses import dataclass
from functools import lru_cache

from dovetail.multipliers.circuits.array import array_circuit
from dovetail.multipliers.circuits.circuit import Circuit
from dovetail.multipliers.circuits.gates import AND, NOT, OR, WIRE, XOR
from dovetail.multipliers.cost import Cost
from dovetail.multipliers.facts import exact_circuit
from dovetail.multipliers.operands import Bits, spell_bits

__all__ = ["UnitGates", "estimated", "unit_gates"]

_AREA = {WIRE: 0, NOT: 0, AND: 1, OR: 1, XOR: 2}
_REFERENCE: Bits = (8, 8)


@dataclass(frozen=True)
class UnitGates:
    """``area`` in gates and ``delay`` in gate delays, along the longest path."""

    area: int
    delay: int


@lru_cache(maxsize=512)
def unit_gates(circuit: Circuit) -> UnitGates:
    """Area and delay of a circuit's gates.

    >>> unit_gates(array_circuit(0b1111, (2, 2), False))  # four ands, two half adders
    UnitGates(area=10, delay=4)
    """
    at = dict.fromkeys((0, 1, *circuit.first, *circuit.second), 0)
    area = 0
    for net, kind, a, b, _ in circuit.program:
        area += _AREA[kind]
        at[net] = max(at[a], at[b]) + _AREA[kind]  # a gate's delay is its area
    return UnitGates(area, max(at[net] for net in circuit.result))


def estimated(circuit: Circuit) -> Cost:
    """Power, area and delay in proportion to the unit gates of a circuit that was measured: the
    catalogue's exact one of the same width and sign, or else of 8 bits.

    >>> found = estimated(array_circuit(0xFFFF, (4, 4), False))
    >>> found.source
    'estimated: 84 unit gates, 424 in mul8u_1JJQ@v2022, EvoApproxLib, PDK45'
    """
    whole = exact_circuit(circuit.bits, circuit.signed)
    width = _REFERENCE if whole is None else circuit.bits
    whole = exact_circuit(width, circuit.signed) if whole is None else whole
    assert whole is not None, spell_bits(width)
    full = unit_gates(array_circuit((1 << width[0] * width[1]) - 1, width, circuit.signed))
    own = unit_gates(circuit)
    share, longer = own.area / full.area, own.delay / full.delay
    return Cost(
        whole.cost.power_mw * share,
        whole.cost.area_um2 * share,
        whole.cost.delay_ns * longer,
        f"estimated: {own.area} unit gates, {full.area} in {whole.spelling}, EvoApproxLib, PDK45",
    )
