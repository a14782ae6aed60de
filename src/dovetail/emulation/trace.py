"""The example run: which operations a model really calls, where, on what shapes and ranges."""

from __future__ import annotations

from collections.abc import Callable, Iterator, Mapping
from contextlib import contextmanager
from typing import Any, ClassVar

import torch
from torch import Tensor, nn
from torch.nn.modules.linear import NonDynamicallyQuantizableLinear
from torch.nn.parameter import is_lazy

from dovetail.emulation import operators
from dovetail.emulation.calls import Call, flipped
from dovetail.emulation.composites import COMPOSITES, Composite, Products
from dovetail.emulation.entry import Reads
from dovetail.emulation.example import arguments_of, described
from dovetail.emulation.mode import WHOLE, Mode
from dovetail.emulation.operators import MODULES, OPERATORS, OpCall, class_kind
from dovetail.emulation.readers import COVERED, UNCOVERED
from dovetail.emulation.seen import Seen, Trace, Watch
from dovetail.emulation.stand_in import owners, standing_in
from dovetail.emulation.swap import Emulated, is_emulated
from dovetail.errors import DovetailError
from dovetail.kernels.geometry import LINEAR, Geometry
from dovetail.recipe import OpAddress

__all__ = ["class_names", "named", "trace", "watching"]

#: Modules that exist for one operation: a table prints that operation by the module's path alone.
_BARE: dict[type[nn.Module], str] = {
    nn.Linear: "linear",
    **dict.fromkeys((nn.Conv1d, nn.Conv2d, nn.Conv3d), "conv"),
    **dict.fromkeys((nn.ConvTranspose1d, nn.ConvTranspose2d, nn.ConvTranspose3d), "conv_transpose"),
    **MODULES,
}


class _Recorder:
    """An entry that records instead of emulating."""

    table: ClassVar[dict[Any, Reads | str]] = {
        **COVERED,
        **OPERATORS,
        **COMPOSITES,
        WHOLE: operators.WHOLE_MODULES,
        **UNCOVERED,
        **operators.UNCOVERED,
    }

    def __init__(
        self, trace: Trace, path: str, types: tuple[str, ...], watch: Watch | None
    ) -> None:
        self.trace, self.path, self.types, self.watch = trace, path, types, watch

    def handle(
        self,
        mode: Mode,
        reader: Reads | str,
        func: Callable[..., Any],
        args: tuple[Any, ...],
        kwargs: dict[str, Any],
    ) -> Any:
        if isinstance(reader, Composite):
            unfused = reader.read(args, kwargs)
            if unfused is not None:
                return unfused.run(_Recorded(self, mode, unfused.counts))
            reader = reader.name
        call = None if isinstance(reader, str) else reader.call(args, kwargs)
        if isinstance(call, OpCall) and call.target is not None:
            call = call.with_operands({slot: t.clone() for slot, t in call.operands.items()})
        result = func(*args, **kwargs)
        if isinstance(call, (Call, OpCall)):
            self.record(mode.module, mode.next_index(call.kind), call, result)
        elif call is None:
            name = reader if isinstance(reader, str) else getattr(func, "__name__", str(func))
            self.trace.uncovered[f"{self.path or '.'}:{name}"] = name
        return result

    def record(self, module: nn.Module, index: int, call: Call | OpCall, result: Tensor) -> None:
        """Note the ``index``-th call of its kind."""
        key = (self.path, call.kind, index)
        if key not in self.trace.seen:
            address = OpAddress(self.path, call.kind, index, self.types)
            self.trace.seen[key] = Seen(address, module)
        with torch._C.DisableTorchFunction():  # what is looked up here is no use of the model's
            self.trace.seen[key].add(call, result)
        if self.watch is not None:
            self.watch(key, call, result)


class _Recorded(Products):
    """The operations of one composite call, recorded under the indices that they take."""

    def __init__(self, recorder: _Recorder, mode: Mode, counts: Mapping[str, int]) -> None:
        self.recorder, self.module = recorder, mode.module
        self.first = {kind: mode.counts.get(kind, 0) for kind in counts}
        mode.counts.update({kind: self.first[kind] + n for kind, n in counts.items()})

    def perform(self, index: int, call: Call | OpCall) -> Tensor:
        result = call.exact()
        self.recorder.record(self.module, self.first[call.kind] + index, call, result)
        return result


def trace(model: nn.Module, example: Any, watch: Watch | None = None) -> Trace:
    """Run ``model`` on ``example`` in eval mode without gradients, and record; nothing changes.

    ``example`` is a tensor, a tuple of positional arguments, a dict of keyword arguments, or
    ``None``: then the modules that exist for one operation are listed, unseen. ``watch`` is shown
    every operation as it is called.
    """
    if not isinstance(model, nn.Module):
        raise DovetailError(f"a model is an nn.Module, not {model!r:.60}")
    for path, module in model.named_modules():
        if is_emulated(module):
            raise DovetailError(f"'{path or '.'}' is emulated already: call dv.remove_ on it first")
        if isinstance(module, torch.jit.ScriptModule):
            raise DovetailError(
                f"'{path or '.'}' is compiled by torch.jit.script, which nothing can see into: "
                "apply the recipe to the model before scripting it"
            )
    found = Trace(has_example=example is not None)
    if example is None:
        for path, module in owners(model):
            kind = _bare_kind(module)
            if kind is not None:
                address = OpAddress(path, kind, 0, class_names(module))
                weight, geometry = _weight(module, kind), _geometry(module, kind)
                seen = Seen(address, module, weight=weight, geometry=geometry)
                found.seen[(path, kind, 0)] = seen
        return named(found)
    args, kwargs = arguments_of(example)
    with _recording(model, found, watch), _undisturbed(model):
        try:
            model(*args, **kwargs)
        except (RuntimeError, TypeError) as error:
            given = ", ".join(map(described, (*args, *kwargs.values()))) or "no arguments"
            raise DovetailError(
                f"the model fails on the example ({given}): {type(error).__name__}: {error}"
            ) from error
    return named(found)


def _geometry(module: nn.Module, kind: str) -> Geometry:
    """Of a module that exists for one operation; how a window moves is left out."""
    sizes = getattr(module, "kernel_size", ())
    if not kind.startswith("conv") or not isinstance(sizes, tuple):
        return LINEAR
    return Geometry(spatial=len(sizes), groups=getattr(module, "groups", 1))


def _weight(module: nn.Module, kind: str) -> Tensor | None:
    """The weight of a module that exists for one operation, as its call will have it."""
    weight = getattr(module, "weight", None)
    if not isinstance(weight, Tensor) or is_lazy(weight):
        return None
    if kind == "conv_transpose":
        groups: int = module.groups  # type: ignore[assignment]
        return flipped(weight.detach(), groups)
    return weight.detach()


def named(found: Trace) -> Trace:
    """Index the operations of a module that calls their kind repeatedly; mark the bare ones."""
    repeated = {(path, kind) for path, kind, index in found.seen if index > 0}
    for (path, kind, index), seen in found.seen.items():
        indexed = (path, kind) in repeated
        seen.address = OpAddress(
            path,
            kind,
            index if indexed else None,
            seen.address.types,
            bare=_bare_kind(seen.module) is not None and not indexed,
        )
    return found


def _bare_kind(module: nn.Module) -> str | None:
    """The one operation that the module is there for; ``nn.MultiheadAttention`` never calls the
    module that holds its output projection."""
    if isinstance(module, NonDynamicallyQuantizableLinear):
        return None
    whole = class_kind(type(module)) if "forward" not in module.__dict__ else None
    return whole or next((kind for cls, kind in _BARE.items() if isinstance(module, cls)), None)


def class_names(module: nn.Module) -> tuple[str, ...]:
    """Names of the module's class and its bases, as ``type=`` matches them."""
    return tuple(c.__name__ for c in type(module).__mro__ if c not in (object, Emulated))


@contextmanager
def watching(model: nn.Module, watch: Watch | None = None) -> Iterator[Trace]:
    """Within, the model computes exactly, emulated or not, and its operations are recorded."""
    found = Trace(has_example=True)
    with _recording(model, found, watch):
        yield found


@contextmanager
def _recording(model: nn.Module, found: Trace, watch: Watch | None) -> Iterator[None]:
    def recorder(path: str, module: nn.Module, _: Any) -> _Recorder:
        return _Recorder(found, path, class_names(module), watch)

    with standing_in(model, recorder):
        yield


@contextmanager
def _undisturbed(model: nn.Module) -> Iterator[None]:
    """Eval mode without gradients; training flags and random state come back as they were.

    The flags are set directly: an exported model refuses ``eval()``, and a user's may do more.
    """
    flags = {module: module.training for module in model.modules()}
    with torch.no_grad(), torch.random.fork_rng(enabled=True):
        for module in flags:
            module.training = False
        try:
            yield
        finally:
            for module, flag in flags.items():
                module.training = flag
