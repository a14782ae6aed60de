"""Whether an argument is a number; Python counts truth values among the integers, users do not."""

from __future__ import annotations

import math
from numbers import Integral, Real
from typing import Any

__all__ = ["is_number", "is_whole"]


def is_whole(value: Any) -> bool:
    """Whether ``value`` is an integer, of NumPy's too, and no truth value.

    >>> is_whole(3), is_whole(3.0), is_whole(True)
    (True, False, False)
    """
    return isinstance(value, Integral) and not isinstance(value, bool)


def is_number(value: Any) -> bool:
    """Whether ``value`` is a finite real number, of NumPy's too, and no truth value.

    >>> is_number(0.5), is_number("0.5"), is_number(True), is_number(float("inf"))
    (True, False, False, False)
    """
    return isinstance(value, Real) and not isinstance(value, bool) and math.isfinite(value)
