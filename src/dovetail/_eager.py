"""Who is watching a call: torch.compile, torch.export, torch.func, autograd, profilers, modes.

Three questions: may the values of tensors be read now (:func:`is_eager`), could anybody tell if an
op were not dispatched by torch (:func:`is_unwatched`), and could nobody but autograd
(:func:`is_only_recorded`).
"""

from __future__ import annotations

from collections.abc import Callable
from typing import Any, TypeVar

import torch
from torch import Tensor, nn
from torch.autograd import forward_ad

__all__ = ["constant", "is_eager", "is_only_recorded", "is_unwatched"]

_ORDINARY = (Tensor, nn.Parameter)

Function = TypeVar("Function", bound=Callable[..., Any])


def is_eager() -> bool:
    """Whether tensors hold values that a kernel may read: no graph traced, no ``torch.func``.

    AOTAutograd traces a backward pass under dispatch modes, while nothing says it is compiling.

    >>> is_eager(), torch.func.vmap(lambda x: x if is_eager() else -x)(torch.ones(2))
    (True, tensor([-1., -1.]))
    """
    traced = torch.compiler.is_compiling() or torch._C._len_torch_dispatch_stack() > 0
    return not traced and not torch._C._are_functorch_transforms_active()


def is_unwatched(*operands: Tensor | None) -> bool:
    """Whether nobody could tell that an op on these operands was not dispatched by torch.

    No gradient is recorded, nothing traces, transforms, profiles or intercepts operations, and the
    operands are ordinary tensors. The op's own function then gives the same result, 20 us sooner.

    >>> x = torch.ones(2, requires_grad=True)
    >>> is_unwatched(x), is_unwatched(x.detach(), None)
    (False, True)
    """
    return not _is_recorded(operands) and not _is_watched(operands)


def is_only_recorded(*operands: Tensor | None) -> bool:
    """Whether autograd records an op on these operands, and nobody else could tell of it.

    A function of autograd's own then gives the same result and gradients, 200 us sooner.

    >>> x = torch.ones(2, requires_grad=True)
    >>> is_only_recorded(x), is_only_recorded(x.detach(), None)
    (True, False)
    """
    return _is_recorded(operands) and not _is_watched(operands)


def _is_recorded(operands: tuple[Tensor | None, ...]) -> bool:
    return torch.is_grad_enabled() and any(x is not None and x.requires_grad for x in operands)


def _is_watched(operands: tuple[Tensor | None, ...]) -> bool:
    return bool(
        not is_eager()
        or torch._C._len_torch_function_stack()
        or torch._C._is_any_autocast_enabled()
        or torch._C._autograd._profiler_enabled()
        or forward_ad._current_level >= 0
        or torch._C._get_tracing_state() is not None
        or any(x is not None and type(x) not in _ORDINARY for x in operands)
    )


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
