"""`design`: the array of partial products with the least error at a given size."""

from __future__ import annotations

from typing import Any

from dovetail.errors import DovetailError, unknown
from dovetail.multipliers.designs.criteria import OBJECTIVES, criterion
from dovetail.multipliers.designs.moments import joint_of
from dovetail.multipliers.designs.search import best_array
from dovetail.multipliers.operands import Bits, as_bits, as_signed
from dovetail.multipliers.partial_products import PartialProducts, array

__all__ = ["design"]


def design(
    cost: float = 0.5,
    *,
    bits: int | Bits = 8,
    signed: bool = True,
    operands: Any = None,
    objective: str = "mse",
    depth: float = 1,
    constant: bool = False,
    restarts: int = 4,
    seed: int = 0,
) -> PartialProducts:
    """The array of partial products of the least error that is found within ``cost`` of the exact.

    ``cost`` is a share of the exact array's unit gates (`dovetail.multipliers.circuits`); the
    constant's gates count. ``operands`` is what the errors are weighted by: nothing (uniform), a
    weight for each pair of codes ``[2**bits_first, 2**bits_second]``, such as
    ``operand_counts(model, x)["conv1"].joint``, or a pair of weights by code. ``objective``:
    ``"mse"``, of sums of ``depth`` products (over ``depth``; above 1 the mean error weighs more) or
    ``"med"``, the mean absolute error. With ``constant`` a number is added that makes up for the
    mean of what is left out (``f(0, 0)`` is then not 0).

    Arrays of up to 16 partial products are all tried, so the result is the best; larger ones are
    searched: greedily, from the best truncated and broken arrays (no result is worse than these),
    and by ``restarts`` walks of simulated annealing, each improved by single steps. The same
    arguments give the same array. Operands of at most 8 + 8 bits.

    >>> m = design(cost=0.5, bits=3, signed=False)
    >>> m, m.errors().bias
    (array(mask=0x1f2, bits=3, signed=False), -1.75)
    """
    width, signs = as_bits(bits, lowest=1), as_signed(signed)
    if sum(width) > 16:
        raise DovetailError(f"bits={bits!r}: arrays are designed for up to 8 + 8 bits")
    if isinstance(cost, bool) or not isinstance(cost, (int, float)) or not 0 <= cost <= 1:
        raise DovetailError(f"cost={cost!r}; give a share of the exact array's gates, 0 to 1")
    if objective not in OBJECTIVES:
        raise unknown("objective", str(objective), OBJECTIVES)
    if not isinstance(depth, (int, float)) or not depth >= 1:
        raise DovetailError(f"depth={depth!r}; give the number of products in a sum, 1 or more")
    if not isinstance(restarts, int) or isinstance(restarts, bool) or restarts < 0:
        raise DovetailError(f"restarts={restarts!r}; give a whole number, 0 or more")
    if objective == "med" and depth != 1:
        raise DovetailError("depth= is for the objective 'mse'; 'med' looks at single products")
    aim = criterion(objective, joint_of(operands, width), width, signs, depth, constant)
    mask, added = best_array(aim, cost, restarts, seed)
    return array(mask, width, signs, added)
