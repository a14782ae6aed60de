"""Unsigned multipliers used for signed operands."""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np

from dovetail._spelling import spell_call
from dovetail.errors import DovetailError
from dovetail.multipliers.base import Multiplier
from dovetail.multipliers.cost import Cost
from dovetail.multipliers.factors import Factors
from dovetail.multipliers.magnitudes import OnMagnitudes
from dovetail.multipliers.operands import Bits, IntArray, operand_values

__all__ = ["SignMagnitude", "sign_magnitude"]


@dataclass(frozen=True, eq=False, repr=False)
class SignMagnitude(OnMagnitudes):
    """See `sign_magnitude`."""

    core: Multiplier
    bits: Bits
    signed: bool

    def __repr__(self) -> str:
        return spell_call("sign_magnitude", repr(self.core))

    def _magnitude(self, first: IntArray, second: IntArray) -> IntArray:
        return self.core._product(first, second)

    def _find_factors(self) -> Factors | None:
        found = self.core.factors()
        if found is None:
            return super()._find_factors()
        sides = []
        for side, bits in zip((found.first, found.second), self.bits, strict=True):
            values = operand_values(bits, True)
            sides.append(np.where(values < 0, -1, 1) * side[:, np.abs(values)])
        return Factors(*sides)

    def _bound(self) -> int:
        return self.core.max_abs

    @property
    def cost(self) -> Cost | None:
        """The unsigned circuit's: the signs cost no multiplier."""
        return self.core.cost


def sign_magnitude(core: Multiplier) -> SignMagnitude:
    """An unsigned multiplier for signed operands of its width: ``sign(a) sign(w) core(|a|, |w|)``.

    An n-bit core takes the magnitudes of n-bit two's complement operands, ``2**(n-1)`` included.
    The sign of 0 is positive. A signed core, or one without a width, is refused.

    >>> from dovetail.multipliers import multiplier
    >>> m = multiplier("sign_magnitude(mul8u_1JJQ)")
    >>> m([-128, 3], [127, -5])
    array([-16256,    -15])
    """
    if core.signed or core.bits is None:
        raise DovetailError(
            f"sign_magnitude({core!r}): the multiplier inside takes magnitudes, so it must be an "
            f"unsigned one of a known width, such as 'mul8u_1JJQ' or 'drum(k=6, signed=False)'"
        )
    return SignMagnitude(core, core.bits, True)
