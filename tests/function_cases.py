"""What tests of approximated functions share: numbers at the edges, and what computes what."""

from __future__ import annotations

import math

import torch

from dovetail.approximations import FUNCTIONS, approximation, function
from dovetail.errors import DovetailError

_MAGNITUDES = [0.0, math.inf, math.nan, 1.0, 2.0, 4.0, 0.5, 65504.0, 65520.0, 1e5, 3e38, 2.0**-14]
_MAGNITUDES += [2.0**-24, 2.0**-25, 1e-40, 1e-45, 1e300, 2.0**-1022, 5e-324, math.pi, 0.999999]
#: Of both signs, float64.
EDGES = torch.tensor([*_MAGNITUDES, *(-x for x in _MAGNITUDES)], dtype=torch.float64)


def computable(spelling: str) -> list[str]:
    """The functions of one variable that this approximation computes."""
    made, names = approximation(spelling), []
    for name in FUNCTIONS:
        try:
            made.check_function(function(name))
        except DovetailError:
            continue
        names.append(name)
    return names
