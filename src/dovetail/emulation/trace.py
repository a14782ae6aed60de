"""The example run: which operations a model really calls, where, on what shapes and ranges."""

from __future__ import annotations

from collections import Counter
from collections.abc import Callable, Iterator, Mapping
from contextlib import contextmanager
from dataclasses import dataclass, field
from typing import Any, ClassVar

import torch
from torch import Tensor, nn
from torch.nn.modules.linear import NonDynamicallyQuantizableLinear
from torch.nn.parameter import is_lazy
from torch.nn.utils.parametrize import ParametrizationList
from torch.nn.utils.rnn import PackedSequence

from dovetail.emulation import operators
from dovetail.emulation.calls import Call, flipped
from dovetail.emulation.composites import COMPOSITES, Composite, Products
from dovetail.emulation.entry import Reads
from dovetail.emulation.hidden import visible
from dovetail.emulation.mode import ENTRY, WHOLE, Mode
from dovetail.emulation.operators import MODULES, OPERATORS, OpCall, class_kind, slot_of
from dovetail.emulation.readers import COVERED, UNCOVERED
from dovetail.emulation.scoring import weight_of
from dovetail.emulation.swap import Emulated, is_emulated, swap_in, swap_out
from dovetail.errors import DovetailError
from dovetail.kernels.geometry import LINEAR, Geometry
from dovetail.kinds import KINDS
from dovetail.recipe import OpAddress

__all__ = [
    "Arguments",
    "Seen",
    "Trace",
    "named",
    "owners",
    "shields",
    "standing_in",
    "trace",
    "watching",
]

#: Modules that exist for one operation: a table prints that operation by the module's path alone.
_BARE: dict[type[nn.Module], str] = {
    nn.Linear: "linear",
    **dict.fromkeys((nn.Conv1d, nn.Conv2d, nn.Conv3d), "conv"),
    **dict.fromkeys((nn.ConvTranspose1d, nn.ConvTranspose2d, nn.ConvTranspose3d), "conv_transpose"),
    **MODULES,
}


@dataclass(frozen=True)
class Arguments:
    """An example with positional arguments and keyword arguments both."""

    args: tuple[Any, ...]
    kwargs: Mapping[str, Any]


@dataclass
class Seen:
    """One operation as the example called it (``calls`` times); ``weight`` is what it multiplies
    by, if that can be sparse."""

    address: OpAddress
    module: nn.Module
    shapes: dict[str, tuple[int, ...]] = field(default_factory=dict)
    macs: int = 0
    reduction: int = 0
    calls: int = 0
    ranges: dict[str, tuple[Tensor, Tensor]] = field(default_factory=dict)
    weight: Tensor | None = None
    geometry: Geometry = LINEAR
    elements: Counter[str] = field(default_factory=Counter)
    dtype: torch.dtype | None = None

    def add(self, call: Call | OpCall, y: Tensor) -> None:
        values = {**call.operands, "output": y}
        self.shapes = {slot: tuple(value.shape) for slot, value in values.items()}
        self.calls += 1
        for name, value in values.items():
            self.elements[slot_of(name)] += value.numel()
        self.dtype = y.dtype
        if KINDS[call.kind].takes("sparsity"):
            self.weight = weight_of(call).detach()
        if isinstance(call, Call):
            self.geometry = call.geometry
            self.reduction = call.reduction
            self.macs += y.numel() * call.reduction
        for name, value in values.items():
            slot = slot_of(name)
            if slot in KINDS[call.kind].activations and value.numel():
                low, high = torch.aminmax(visible(call.kind, value.detach()).float())
                before = self.ranges.get(slot, (low, high))
                self.ranges[slot] = (torch.minimum(before[0], low), torch.maximum(before[1], high))


#: Where an operation was called: the module's path, the kind, and how often before in that call.
Place = tuple[str, str, int]
#: Is shown every operation as it is called.
Watch = Callable[[Place, "Call | OpCall", Tensor], None]


@dataclass
class Trace:
    """Everything the example called. ``uncovered`` maps ``path:op`` to the op's name."""

    seen: dict[Place, Seen] = field(default_factory=dict)
    uncovered: dict[str, str] = field(default_factory=dict)
    has_example: bool = False


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


class _Shield:
    """An entry that takes the caller's mode away: what runs inside is nobody's operation."""

    table: ClassVar[dict[Any, Reads | str]] = {}


def shields(model: nn.Module) -> Iterator[nn.Module]:
    """The parametrizations: they compute a weight while its module runs, and stay exact."""
    return (module for module in model.modules() if isinstance(module, ParametrizationList))


def owners(model: nn.Module) -> Iterator[tuple[str, nn.Module]]:
    """Every module that may own operations; parametrizations compute weights, and are left out."""
    skipped: tuple[str, ...] = ()
    for path, module in model.named_modules():
        if path.startswith(skipped) and skipped:
            continue
        if isinstance(module, ParametrizationList):
            skipped = (*skipped, path + ".")
        elif type(module).forward is not nn.Module.forward or "forward" in module.__dict__:
            yield path, module


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
            given = ", ".join(map(_described, (*args, *kwargs.values()))) or "no arguments"
            raise DovetailError(
                f"the model fails on the example ({given}): {type(error).__name__}: {error}"
            ) from error
    return named(found)


def _described(argument: Any) -> str:
    if isinstance(argument, Tensor):
        return f"{argument.dtype} {tuple(argument.shape)}"
    return f"{type(argument).__name__} {argument!r:.40}"


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


def arguments_of(example: Any) -> tuple[tuple[Any, ...], Mapping[str, Any]]:
    """Positional and keyword arguments: what an example means.

    >>> arguments_of({"x": 1}), arguments_of((1, 2)), arguments_of(3)
    (((), {'x': 1}), ((1, 2), {}), ((3,), {}))
    """
    if isinstance(example, Arguments):
        return example.args, example.kwargs
    if isinstance(example, Mapping):
        return (), example
    one = not isinstance(example, tuple) or isinstance(example, PackedSequence)
    return ((example,), {}) if one else (example, {})


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
def standing_in(model: nn.Module, make: Callable[[str, nn.Module, Any], Any]) -> Iterator[None]:
    """Within, every module that computes has the entry ``make(path, module, entry)``, where the
    last is the one that it has, ``None`` if it is not emulated."""
    entries: dict[nn.Module, Any] = {}
    try:
        for path, module in owners(model):
            entries[module] = _stand_in(module, make(path, module, module.__dict__.get(ENTRY)))
        for module in shields(model):
            entries[module] = _stand_in(module, _Shield())
        yield
    finally:
        for module, entry in entries.items():
            if entry is None:
                swap_out(module)
            else:
                module.__dict__[ENTRY] = entry


def _stand_in(module: nn.Module, entry: Any) -> Any:
    """Give the module this entry; the one that it has, if it is emulated."""
    emulated = module.__dict__.get(ENTRY)
    if emulated is None:
        swap_in(module, entry)
    else:
        module.__dict__[ENTRY] = entry
    return emulated


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
