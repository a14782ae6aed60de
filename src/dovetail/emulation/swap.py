"""How a module comes to run under a mode: a derived class whose only change is ``forward``."""

from __future__ import annotations

import copyreg
import functools
from collections.abc import Callable
from typing import Any

import torch
from torch import fx, nn

from dovetail.emulation.composites.rotary import ROTATE, rebound, refresh, turning
from dovetail.emulation.mode import ENTRY, run, run_as_one
from dovetail.emulation.operators.modules import class_kind
from dovetail.errors import DovetailError

__all__ = ["BUFFER_PREFIX", "OWN_PREFIX", "Emulated", "is_emulated", "swap_in", "swap_out"]

#: Our ranges and masks are non-persistent buffers under this prefix, learned scores parameters:
#: they move with the module, and the user's ``state_dict`` does not see them.
BUFFER_PREFIX = "_dovetail_"

#: The model's own tensors, put aside for a while: they change their dtype as the model does.
OWN_PREFIX = BUFFER_PREFIX + "own_"


class Emulated:
    """Mixin placed first in the derived class."""

    _dovetail_base: type[nn.Module]
    _dovetail_kind: str | None

    def __init_subclass__(cls, **_: Any) -> None:
        """Keep silent, or registries in the user's base classes would see a second class."""

    def __reduce_ex__(self, protocol: Any) -> Any:
        rebuilt = super().__reduce_ex__(protocol)
        if not isinstance(rebuilt, tuple) or rebuilt[0] is not copyreg.__newobj__:  # type: ignore[attr-defined]
            return rebuilt
        return (_rebuild, (self._dovetail_base, *rebuilt[1][1:]), *rebuilt[2:])

    def _apply(self, fn: Any, recurse: bool = True) -> Any:
        """Ranges stay float32 when the model changes its floating dtype."""
        buffers: dict[str, torch.Tensor] = self.__dict__["_buffers"]
        kept = {
            name: value
            for name, value in buffers.items()
            if name.startswith(BUFFER_PREFIX) and not name.startswith(OWN_PREFIX)
        }
        result = super()._apply(fn, recurse)  # type: ignore[misc]
        for name, before in kept.items():
            if buffers[name].dtype != before.dtype:
                buffers[name] = before.to(buffers[name].device)
        return result

    def _save_to_state_dict(
        self, destination: dict[str, Any], prefix: str, keep_vars: bool
    ) -> None:
        """Learned scores are no part of the user's state."""
        super()._save_to_state_dict(destination, prefix, keep_vars)  # type: ignore[misc]
        for name in self.__dict__["_parameters"]:
            if name.startswith(BUFFER_PREFIX):
                destination.pop(prefix + name, None)

    def _load_from_state_dict(self, *args: Any, **kwargs: Any) -> None:
        parameters: dict[str, Any] = self.__dict__["_parameters"]
        ours = {n: parameters.pop(n) for n in list(parameters) if n.startswith(BUFFER_PREFIX)}
        try:
            super()._load_from_state_dict(*args, **kwargs)  # type: ignore[misc]
        finally:
            parameters.update(ours)


_classes: dict[type[nn.Module], type[nn.Module]] = {}


def _derived(base: type[nn.Module]) -> type[nn.Module]:
    derived, kind = _classes.get(base), class_kind(base)
    if derived is None or derived.__dict__["_dovetail_kind"] != kind:  # registered since then
        derived = _classes[base] = _derive(base, kind)
    if kind is None:
        refresh(derived.__dict__["_dovetail_inner"].__func__, base.forward)
    return derived


def _derive(base: type[nn.Module], kind: str | None) -> type[nn.Module]:
    enter = run if kind in (None, ROTATE) else run_as_one
    inner: Callable[..., Any] = base.forward
    if kind in (None, ROTATE):
        inner = rebound(inner) if kind is None else turning(inner)

    @functools.wraps(base.forward)
    def forward(self: nn.Module, *args: Any, **kwargs: Any) -> Any:
        return enter(inner, self, *args, **kwargs)

    names = {
        "forward": forward,
        "_dovetail_base": base,
        "_dovetail_inner": staticmethod(inner),
        "_dovetail_kind": kind,
        "__module__": base.__module__,
        "__qualname__": base.__qualname__,
        "__doc__": base.__doc__,
    }
    metaclass: Any = type(base)
    derived: type[nn.Module] = metaclass(base.__name__, (Emulated, base), names)
    return derived


def _rebuild(base: type[nn.Module], *args: Any) -> Any:
    cls = _derived(base)
    return cls.__new__(cls, *args)


def is_emulated(module: nn.Module) -> bool:
    """Whether the module has an entry."""
    return ENTRY in module.__dict__


def swap_in(module: nn.Module, entry: Any) -> None:
    """Give ``module`` the entry, and the derived class (or a wrapped bound ``forward``)."""
    module.__dict__[ENTRY] = entry
    if isinstance(module, fx.GraphModule) or "forward" in module.__dict__:
        # These bypass the class's forward: wrap what is there.
        module.__dict__["_dovetail_forward"] = module.__dict__.get("forward")
        module.__dict__["forward"] = functools.partial(_bound, module, module.forward)
        if isinstance(module, fx.GraphModule):
            # It copies and pickles its graph alone, and the emulation would silently stay behind.
            module.__dict__.update(dict.fromkeys(_COPIES, _refuse_copy))
    else:
        module.__class__ = _derived(type(module))


def swap_out(module: nn.Module) -> None:
    """Undo :func:`swap_in`. A class derived from ours since then stays, inert without an entry."""
    module.__dict__.pop(ENTRY, None)
    ours = [n for n in (*module._buffers, *module._parameters) if n.startswith(BUFFER_PREFIX)]
    for name in ours:
        delattr(module, name)
    if "_dovetail_forward" in module.__dict__:
        earlier: Callable[..., Any] | None = module.__dict__.pop("_dovetail_forward")
        for name in ("forward", *_COPIES):
            module.__dict__.pop(name, None)
        if earlier is not None:
            module.__dict__["forward"] = earlier
    elif "_dovetail_base" in type(module).__dict__:
        module.__class__ = type(module).__dict__["_dovetail_base"]


def _bound(module: nn.Module, forward: Callable[..., Any], *args: Any, **kwargs: Any) -> Any:
    return run(_ignoring_self(forward), module, *args, **kwargs)


_COPIES = ("__deepcopy__", "__reduce_ex__")


def _refuse_copy(*_: Any) -> Any:
    raise DovetailError(
        "an emulated fx.GraphModule cannot be copied or pickled: copy it first, then apply_ the "
        "recipe to the copy"
    )


def _ignoring_self(forward: Callable[..., Any]) -> Callable[..., Any]:
    return lambda _module, *args, **kwargs: forward(*args, **kwargs)
