"""The tensors of a module as a compiled function takes them, while it is what was compiled."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any, Protocol

import torch
from torch import Tensor, nn

from dovetail.compiler.build.kernel import caller
from dovetail.compiler.frozen import Slot
from dovetail.emulation.mode import ENTRY

__all__ = ["State", "slot_of", "state_of"]


class State(Protocol):
    """The parameters and buffers of a module, or None once it is no longer what it was."""

    def __call__(self) -> list[Tensor] | None: ...

    def ready(self, args: tuple[Any, ...]) -> list[Any] | None:
        """Those and ``args``, where all are at a glance what they were; otherwise None."""


def state_of(
    source: nn.Module,
    paths: Sequence[str],
    gradients: bool,
    args: Sequence[Any] = (),
    dynamic: bool = False,
) -> State:
    """The parameters and buffers at ``paths`` as long as ``source`` is what it is now.

    ``args`` are what :meth:`State.ready` is for; with ``dynamic`` their first dimension may change.
    Calling it looks every tensor up where it stands, as its place may be given another at any time,
    and asks for the type, the shape, the strides and with ``gradients`` for ``requires_grad`` that
    it has now. Parts, their classes, their ``training`` flags and their emulation must be the same.
    """
    places = tuple(_place(source, path, gradients) for path in paths)
    modules = [*source.modules()]
    same = tuple(item for module in modules for item in _held(module))
    types = tuple((module, type(module)) for module in modules)
    guard = _guard([own[name] for own, name, *_ in places], args, dynamic)
    made: State = caller().State(places, same, types, guard, len(args))
    return made


def _guard(tensors: Sequence[Tensor], args: Sequence[Any], dynamic: bool) -> Any:
    """Torch's own function that tells whether tensors have these types, shapes and strides."""
    if not all(isinstance(arg, Tensor) and arg.layout == torch.strided for arg in args):
        return None
    free = [False] * len(tensors) + [dynamic] * len(args)
    every = [*tensors, *args]
    sizes = [_dims(t.shape, is_free) for t, is_free in zip(every, free, strict=True)]
    strides = [_dims(t.stride(), is_free) for t, is_free in zip(every, free, strict=True)]
    guards: Any = torch._C._dynamo.guards.TensorGuards  # its stub has other types
    return guards(*every, dynamic_dims_sizes=sizes, dynamic_dims_strides=strides).check


def _dims(dims: Sequence[int], is_free: bool) -> list[int | None]:
    return [None if is_free and not number else int(dim) for number, dim in enumerate(dims)]


def slot_of(source: nn.Module, path: str) -> Slot:
    """The dictionary that a parameter or a buffer of ``source`` is in, and its name there."""
    owner, _, name = path.rpartition(".")
    holder = source.get_submodule(owner)
    own: Any = holder._parameters if name in holder._parameters else holder._buffers
    return own, name


def _place(source: nn.Module, path: str, gradients: bool) -> tuple[Any, ...]:
    own, name = slot_of(source, path)
    tensor = own[name]
    requires = bool(tensor.requires_grad) if gradients else None
    known = (tensor.dtype, tensor.is_cpu, tuple(tensor.shape), tensor.stride(), requires)
    return own, name, *known


def _held(module: nn.Module) -> list[tuple[dict[str, Any], str, Any]]:
    own = module.__dict__
    held = [(own, name, own[name]) for name in ("training", ENTRY) if name in own]
    return held + [(own["_modules"], name, part) for name, part in own["_modules"].items()]
