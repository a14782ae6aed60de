"""The multiplier of a layer, set by its table."""

from __future__ import annotations

from typing import Any

import numpy as np
import numpy.typing as npt

from dovetail.compat._layers import spelling
from dovetail.compat.torchapprox.quantizer import QConfig, qconfig_of
from dovetail.multipliers import Multiplier, multiplier

__all__ = ["LUT"]


class LUT:
    """``lut[x][w]`` for bytes x and w, in the order 0..127, -128..-1; ``None`` is exact.

    What `dovetail.multiplier` takes may be given too, such as a name. A multiplier that does not
    take the codes of ``qconfig``'s formats is refused.

    >>> op = LUT()
    >>> int(op.lut[3, 255])
    -3
    >>> op.lut = "mul8s_1KV9"
    >>> op.multiplier
    mul8s_1KV9@v2022
    """

    def __init__(self, lut: Any = None, qconfig: QConfig | None = None) -> None:
        self.qconfig = qconfig_of(qconfig)
        self.lut = lut

    @property
    def multiplier(self) -> Multiplier:
        """What the table says."""
        return self._multiplier

    @property
    def lut(self) -> npt.NDArray[np.int32]:
        """The table, int32 [256, 256]."""
        return np.asarray(self._multiplier.table().numpy())

    @lut.setter
    def lut(self, given: Any) -> None:
        chosen = multiplier("exact" if given is None else given)
        self.spelling = spelling(self.qconfig.input, self.qconfig.weight, chosen)
        self._multiplier = chosen


LUTGeMM = LUT
