"""What a cast asks of torch.compile, torch.export and torch.func."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any, TypeVar

import torch

__all__ = ["constant", "is_eager"]

Function = TypeVar("Function", bound=Callable[..., Any])


def is_eager() -> bool:
    """Whether tensors hold values that a kernel may read: no graph traced, no ``torch.func``.

    AOTAutograd traces a backward pass under dispatch modes, while nothing says it is compiling.

    >>> is_eager(), torch.func.vmap(lambda x: x if is_eager() else -x)(torch.ones(2))
    (True, tensor([-1., -1.]))
    """
    traced = torch.compiler.is_compiling() or torch._C._len_torch_dispatch_stack() > 0
    return not traced and not torch._C._are_functorch_transforms_active()


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
