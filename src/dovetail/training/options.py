"""Options of a training run: refused by name unless they are what they must be."""

from __future__ import annotations

from typing import Any

from dovetail._numbers import is_whole
from dovetail.errors import DovetailError

__all__ = ["function", "whole"]


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
