"""Chooses, for a multiplier and its operands, the cheapest realisation that is exact."""

from __future__ import annotations

from functools import lru_cache

from dovetail.kernels import native, native_mac, native_wide, reference, torch_kernels
from dovetail.kernels.realisation import MacKernel, Operands, candidates, forced
from dovetail.multipliers import Multiplier

__all__ = ["plan_mac"]

# Imported for their registrations.
_MODULES = (native_mac, native_wide, reference, torch_kernels)


def plan_mac(mul: Multiplier, operands: Operands) -> MacKernel:
    """The kernel that will compute sums of ``mul``'s products; the same one for the same question.

    >>> from dovetail.kernels.realisation import using
    >>> from dovetail.multipliers import multiplier
    >>> with using("reference"):
    ...     plan_mac(multiplier("exact"), Operands((-127, 127), (-127, 127))).name
    'reference'
    """
    # Packed weights belong to an instruction-set level, so each level has kernels of its own.
    return _plan(mul, operands, forced(), native.isa() if native.available() else None)


@lru_cache(maxsize=256)
def _plan(mul: Multiplier, operands: Operands, _forced: str | None, _isa: str | None) -> MacKernel:
    return candidates("mac", mul, operands)[0].factory(mul, operands)
