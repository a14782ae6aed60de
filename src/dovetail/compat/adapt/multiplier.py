"""``axx_mult=``: AdaPT's names of multipliers, and its C headers."""

from __future__ import annotations

from typing import Any

from dovetail.multipliers import Multiplier, multiplier
from dovetail.multipliers.facts import all_facts

__all__ = ["axx_multiplier"]


def axx_multiplier(given: Any) -> Multiplier:
    """The multiplier that ``axx_mult=`` names: ``mul8s_acc`` is exact; a bare circuit is that of
    EvoApproxLib v1.1, which AdaPT took, where it has one; or all that `dovetail.multiplier` takes,
    such as the path of a header, ``"mul8s_mine.h"``.

    Headers that AdaPT's ``LUT_convert`` wrote hold ``f(|a|, |w|)`` where both operands are
    negative, whatever the circuit computes; named circuits here are the circuits.

    >>> axx_multiplier("mul8s_acc"), axx_multiplier("mul8s_1L2H")
    (exact(bits=8, signed=True), mul8s_1L2H@v1.1)
    """
    if isinstance(given, str) and given == "mul8s_acc":
        return multiplier("exact(bits=8)")
    if isinstance(given, str) and f"{given}@v1.1" in all_facts():
        return multiplier(f"{given}@v1.1")
    return multiplier(given)
