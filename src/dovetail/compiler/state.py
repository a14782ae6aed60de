"""The tensors of a module as a compiled function takes them, while it is what was compiled."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from typing import Any

from torch import Tensor, nn

from dovetail.compiler.build.kernel import caller
from dovetail.compiler.frozen import Slot
from dovetail.emulation.mode import ENTRY

__all__ = ["slot_of", "state_of"]


def state_of(
    source: nn.Module, paths: Sequence[str], gradients: bool
) -> Callable[[], list[Tensor] | None]:
    """A function that returns the parameters and buffers at ``paths``, or None once ``source`` is
    no longer what it is now.

    It looks every tensor up where it stands, as its place may be given another at any time, and
    asks for the type, the shape, the strides and with ``gradients`` for ``requires_grad`` that it
    has now. Parts, their classes, their ``training`` flags and their emulation must be the same.
    """
    places = tuple(_place(source, path, gradients) for path in paths)
    modules = [*source.modules()]
    same = tuple(item for module in modules for item in _held(module))
    types = tuple((module, type(module)) for module in modules)
    made: Callable[[], list[Tensor] | None] = caller().State(places, same, types)
    return made


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
