"""What is a constant in a graph: computed while it is traced, not part of it."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any, TypeVar

__all__ = ["constant"]

Function = TypeVar("Function", bound=Callable[..., Any])


def constant(function: Function) -> Function:
    """Decorator: torch.compile and torch.export call the function and keep what it returns.

    What ``torch.compiler.assume_constant_result`` does, which itself would import torch._dynamo
    here: a second of every start, and torch.manual_seed is wrapped.

    >>> @constant
    ... def two() -> int:
    ...     return 2
    >>> two()
    2
    """
    function._dynamo_marked_constant = True  # type: ignore[attr-defined]
    return function
