"""How many unit gates an array of partial products takes, without building it.

Equal to `unit_gates(array_circuit(...)).area`: a column of v bits (carries included) takes
``(v - 1) // 2`` full adders of 7 gates, and a half adder of 3 where v is even, and sends ``v // 2``
carries on. A constant bit meets two others first, for 4 gates, or one alone, for none. The top
column needs no carries.
"""

from __future__ import annotations

import numpy as np

from dovetail.multipliers.circuits.array import sign_constant
from dovetail.multipliers.operands import Bits, IntArray

__all__ = ["area_of_sums", "array_area", "column_heights"]


def array_area(matrix: IntArray, bits: Bits, signed: bool, constant: int = 0) -> int:
    """Unit gates of the array that keeps ``matrix`` (0 or 1, ``[bits[0], bits[1]]``).

    >>> array_area(np.ones((8, 8), dtype=np.int64), (8, 8), signed=False)
    424
    """
    added = (constant + sign_constant(matrix, bits, signed)) % (1 << sum(bits))
    return int(matrix.sum()) + area_of_sums(column_heights(matrix, bits), added)


def column_heights(matrix: IntArray, bits: Bits) -> list[int]:
    """How many partial products each column of the sum has.

    >>> column_heights(np.ones((2, 2), dtype=np.int64), (2, 2))
    [1, 2, 1, 0]
    """
    column = np.add.outer(*(np.arange(n) for n in bits))
    counts = np.bincount(column.ravel(), matrix.ravel(), minlength=sum(bits))
    return [int(count) for count in counts]


def area_of_sums(heights: list[int], added: int) -> int:
    """Unit gates of the adders for columns of these heights and the constant ``added``.

    >>> area_of_sums([1, 2, 1, 0], 0)  # two half adders
    6
    """
    area = carries = 0
    last = len(heights) - 1
    for place, height in enumerate(heights):
        count, top = height + carries, place == last
        carries = 0
        if added >> place & 1 and count:
            carries = 1
            if count > 1:  # two bits and the constant: an exclusive-or, an and, an or
                area += 2 if top else 4
                count -= 1
        if count > 1:
            full, half = (count - 1) // 2, count % 2 == 0
            area += full * (4 if top else 7) + half * (2 if top else 3)
            carries += full + half
    return area
