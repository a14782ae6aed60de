"""Options of a training run: refused by name unless they are what they must be."""

from __future__ import annotations

import math
from numbers import Integral, Real
from typing import Any

from dovetail.errors import DovetailError

__all__ = ["function", "is_number", "is_whole", "whole"]


def is_whole(value: Any) -> bool:
    """Whether ``value`` is an integer, of NumPy's too, and no truth value."""
    return isinstance(value, Integral) and not isinstance(value, bool)


def is_number(value: Any) -> bool:
    """Whether ``value`` is a finite real number, of NumPy's too, and no truth value.

    >>> is_number(0.5), is_number("0.5"), is_number(True), is_number(float("inf"))
    (True, False, False, False)
    """
    return isinstance(value, Real) and not isinstance(value, bool) and math.isfinite(value)


def whole(name: str, value: Any, why: str) -> None:
    """Refuse what does not count from 1.

    >>> whole("epochs", 1.5, "training takes at least 1")
    Traceback (most recent call last):
    dovetail.errors.DovetailError: epochs is 1.5; training takes at least 1
    """
    if not is_whole(value) or value < 1:
        raise DovetailError(f"{name} is {value!r}; {why}")


def function(name: str, value: Any, of: str) -> None:
    """Refuse what is neither left out nor a function.

    >>> function("loss", "mse", "loss(output, target)")
    Traceback (most recent call last):
    dovetail.errors.DovetailError: loss='mse': give a function loss(output, target)
    """
    if value is not None and not callable(value):
        raise DovetailError(f"{name}={value!r}: give a function {of}")
