"""How a call finds its arithmetic: a function mode per module call.

Entering an emulated module lifts the caller's mode off torch's function-mode stack, pushes one that
holds the module's own entry, and undoes both on the way out, also when an exception (or a
KeyboardInterrupt) passes. So the stack itself is the module path: nothing global, nothing mutated.

This is the only file that uses torch's private function-mode stack.
"""

from __future__ import annotations

from collections.abc import Callable, Sequence
from contextlib import AbstractContextManager, nullcontext
from typing import TYPE_CHECKING, Any

import torch
from torch import nn
from torch.overrides import TorchFunctionMode, _pop_mode, _push_mode

if TYPE_CHECKING:
    from dovetail.emulation.entry import Entry

__all__ = [
    "ENTRY",
    "WHOLE",
    "Mode",
    "call_as_one",
    "checkpoint_context",
    "run",
    "run_as_one",
    "run_under",
]

#: The key in a module's ``__dict__`` under which its entry stands.
ENTRY = "_dovetail"

#: The key in an entry's table under which stands how a module that is one operation is read.
WHOLE = "module"


class Mode(TorchFunctionMode):
    """Sees every torch function called in one module's forward, once, and handles some."""

    def __init__(self, entry: Entry, module: nn.Module) -> None:
        super().__init__()
        self.entry = entry
        self.module = module
        self.counts: dict[str, int] = {}

    def __torch_function__(
        self,
        func: Callable[..., Any],
        types: Sequence[type],
        args: tuple[Any, ...] = (),
        kwargs: dict[str, Any] | None = None,
    ) -> Any:
        reader = self.entry.table.get(func)
        if reader is None:
            return func(*args, **kwargs) if kwargs else func(*args)
        return self.entry.handle(self, reader, func, args, kwargs or {})

    def next_index(self, kind: str) -> int:
        """How often ``kind`` was called before in this module call."""
        index = self.counts.get(kind, 0)
        self.counts[kind] = index + 1
        return index


def run(forward: Callable[..., Any], module: nn.Module, /, *args: Any, **kwargs: Any) -> Any:
    """Call ``forward(module, ...)`` under the module's own mode (none, if its entry is empty)."""
    entry = module.__dict__.get(ENTRY)
    if entry is None:  # a fresh instance of the derived class, or after remove_
        return forward(module, *args, **kwargs)
    return run_under(entry, module, forward, (module, *args), kwargs)


def run_under(
    entry: Any,
    module: nn.Module,
    forward: Callable[..., Any],
    args: tuple[Any, ...],
    kwargs: dict[str, Any],
) -> Any:
    """Call ``forward(*args, **kwargs)`` under a mode of ``module`` with that entry.

    An entry has a ``table`` of functions and a ``handle`` for their calls, as
    :class:`dovetail.emulation.entry.Entry` has.
    """
    lifted = _lift() if torch._C._len_torch_function_stack() else []
    try:
        if not entry.table:
            return _under(lifted[:-1], forward, args, kwargs)
        with Mode(entry, module):
            return _under(lifted[:-1], forward, args, kwargs)
    finally:
        for mode in reversed(lifted):
            _push_mode(mode)


def run_as_one(forward: Callable[..., Any], module: nn.Module, /, *args: Any, **kwargs: Any) -> Any:
    """Like :func:`run` for a module that is one operation: what it calls is nobody's."""
    entry = module.__dict__.get(ENTRY)
    if entry is None:
        return forward(module, *args, **kwargs)
    return _as_one(Mode(entry, module), WHOLE, forward, (module, *args), kwargs)


def call_as_one(key: Any, func: Callable[..., Any], /, *args: Any, **kwargs: Any) -> Any:
    """Call a function that is one operation, known as ``key``: what it calls is nobody's."""
    place = _topmost()
    if place < 0:
        return func(*args, **kwargs)
    return _as_one(torch._C._get_function_stack_at(place), key, func, args, kwargs)


def checkpoint_context() -> tuple[AbstractContextManager[Any], AbstractContextManager[Any]]:
    """The ``context_fn`` with which torch checkpoints a *function* inside an emulated module.

    ``torch.utils.checkpoint`` recomputes in the backward pass, when no module is entered: without
    this context a checkpointed function would be recomputed exactly (checkpointed *modules* need
    nothing). With ``use_reentrant=True`` torch takes no context: do not use it there.

    >>> from torch.utils.checkpoint import checkpoint
    >>> x = torch.ones(2, requires_grad=True)
    >>> y = checkpoint(torch.sin, x, use_reentrant=False, context_fn=checkpoint_context)
    """
    place = _topmost()
    if place < 0:
        return nullcontext(), nullcontext()
    mode = torch._C._get_function_stack_at(place)
    again = Mode(mode.entry, mode.module)
    again.counts = dict(mode.counts)
    return nullcontext(), again


def _as_one(
    mode: Any, key: Any, func: Callable[..., Any], args: tuple[Any, ...], kwargs: dict[str, Any]
) -> Any:
    lifted = _lift() if torch._C._len_torch_function_stack() else []
    try:
        reader = mode.entry.table.get(key)
        if reader is None:
            return _under(lifted[:-1], func, args, kwargs)
        return _under(lifted[:-1], mode.entry.handle, (mode, reader, func, args, kwargs), {})
    finally:
        for each in reversed(lifted):
            _push_mode(each)


def _topmost() -> int:
    """Where the topmost mode of ours stands on the stack; -1 if there is none."""
    place = torch._C._len_torch_function_stack() - 1
    while place >= 0 and not isinstance(torch._C._get_function_stack_at(place), Mode):
        place -= 1
    return place


def _lift() -> list[TorchFunctionMode]:
    """Pop the topmost mode of ours and what a user pushed above it; empty if there is none."""
    place = _topmost()
    length = torch._C._len_torch_function_stack()
    return [_pop_mode() for _ in range(length - place)] if place >= 0 else []


def _under(
    above: list[TorchFunctionMode],
    func: Callable[..., Any],
    args: tuple[Any, ...],
    kwargs: dict[str, Any],
) -> Any:
    """Call with the user's modes back on top."""
    if not above:
        return func(*args, **kwargs)
    for mode in reversed(above):
        _push_mode(mode)
    try:
        return func(*args, **kwargs)
    finally:
        for _ in above:
            _pop_mode()
