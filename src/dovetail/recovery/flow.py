"""Which operation feeds which, and nothing else: the proof that a change in one can be undone in
the others.

One batch is run and every use of every tensor noted. A value *only* flows into an operation if no
other function of torch took it, nor anything that shares its memory, and the model did not return
it. Functions that copy or reshape it without moving its channels pass it on.
"""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import dataclass, field
from typing import Any

import torch
from torch import Tensor, nn
from torch.overrides import TorchFunctionMode
from torch.utils._pytree import tree_leaves

from dovetail.emulation.calls import Call
from dovetail.emulation.operators import OpCall
from dovetail.emulation.seen import Place
from dovetail.emulation.trace import watching
from dovetail.recovery.batches import Batches, quiet

__all__ = ["Flow", "flow"]

#: Ask about a tensor without looking at its values.
_ASKING = frozenset(
    {"__get__", "size", "dim", "ndimension", "stride", "numel", "nelement", "element_size"}
    | {"is_contiguous", "is_floating_point", "is_complex", "get_device", "__len__"}
)
#: Give the same values, whole rows at least, where no channel is moved.
_PASSING = frozenset(
    {"clone", "contiguous", "detach", "to", "float", "double", "half", "bfloat16"}
    | {"view", "view_as", "reshape", "reshape_as", "flatten", "unflatten"}
)


@dataclass(eq=False)
class _Value:
    """What one call of an operation gave: who took it, and whether its rows were reshaped. What
    another function gave has no ``source``, but ``origins``: the operations it was made from."""

    source: Place | None
    origins: frozenset[Place]
    tensors: list[Tensor]  # keep the memory from being used again
    takers: set[tuple[Place, str]] = field(default_factory=set)
    strangers: int = 0  # uses by what is no operation
    reshaped: bool = False
    parted: bool = False  # something took a part of it


@dataclass(eq=False)
class _Event:
    """One call of a function that is not known to be an operation yet."""

    result: Any
    taken: list[_Value]
    overwritten: list[tuple[int, _Value]]


class Flow(TorchFunctionMode):
    """The uses of every value that operations gave, in one run."""

    def __init__(self) -> None:
        super().__init__()
        self.values: list[_Value] = []
        self._now: dict[int, _Value] = {}
        self._events: list[_Event] = []
        self._fed: dict[tuple[Place, str], list[_Value | None]] = {}

    def only_takers(self, place: Place) -> set[tuple[Place, str]] | None:
        """The operations, with the slot, that take what ``place`` gives; ``None`` if anything else
        does, too."""
        takers: set[tuple[Place, str]] = set()
        for value in self.values:
            if value.source == place:
                if value.strangers:
                    return None
                takers |= value.takers
        return takers

    def feeder(self, place: Place, slot: str = "input") -> Place | None:
        """The one operation whose values ``place`` takes in every call; ``None`` if not one."""
        values = self._fed.get((place, slot), [])
        sources = {None if value is None else value.source for value in values}
        return sources.pop() if len(sources) == 1 else None

    def origins(self, place: Place, slot: str = "input") -> set[Place]:
        """The operations that what ``place`` takes was made from, directly, by functions that are
        no operations, or through dropout."""
        values = self._fed.get((place, slot), [])
        return {origin for value in values if value is not None for origin in value.origins}

    def parted(self, place: Place, slot: str) -> bool:
        """Whether what ``place`` takes may be a part of what its origins gave."""
        return any(value is None or value.parted for value in self._fed.get((place, slot), []))

    def reshaped(self, place: Place) -> bool:
        """Whether what ``place`` gives was reshaped on its way, its last axis kept."""
        return any(value.reshaped for value in self.values if value.source == place)

    def __torch_function__(
        self,
        func: Callable[..., Any],
        types: Sequence[type],
        args: tuple[Any, ...] = (),
        kwargs: dict[str, Any] | None = None,
    ) -> Any:
        result = func(*args, **(kwargs or {}))
        name = getattr(func, "__name__", "")
        given = [t for t in tree_leaves((args, kwargs or {})) if isinstance(t, Tensor)]
        made = [t for t in tree_leaves(result) if isinstance(t, Tensor)]
        if not made and name in _ASKING:
            return result
        if name in _PASSING and len(made) == 1 and self._passes(given, made[0]):
            return result
        taken = [v for t in given if (v := self._now.get(_storage(t))) is not None]
        event = _Event(result, taken, [])
        for value in taken:
            value.strangers += 1
        for tensor in made:
            before = self._now.get(_storage(tensor))
            if before is not None and tensor.numel() < before.tensors[0].numel():
                before.parted = True
            if before is None or name.endswith("_"):
                event.overwritten += [] if before is None else [(_storage(tensor), before)]
                self._give(tensor, None, frozenset().union(*(v.origins for v in taken)))
                smaller = any(tensor.numel() < v.tensors[0].numel() for v in taken)
                self.values[-1].parted = smaller or any(v.parted for v in taken)
        self._events = [*self._events[-3:], event]
        return result

    def call(self, place: Place, call: Call | OpCall, result: Tensor) -> None:
        """An operation was called: its own function's use of its operands is known by name now."""
        target = call.target if isinstance(call, OpCall) else None
        self._forget_event(result if target is None else target)
        for slot, operand in call.operands.items():
            known = target if target is not None and slot == "input" else operand
            value = self._now.get(_storage(known))
            self._fed.setdefault((place, slot), []).append(value)
            if value is not None:
                value.takers.add((place, slot))
        self._give(result, place, self._origins_of(place, call))

    def _origins_of(self, place: Place, call: Call | OpCall) -> frozenset[Place]:
        """The operation itself; of a dropout, which gives on what it takes, that value's."""
        if call.kind == "dropout":
            value = self._fed[(place, "input")][-1]
            return frozenset() if value is None else value.origins
        return frozenset({place})

    def give_back(self, output: Any) -> None:
        """What the model returns is taken by the caller."""
        for tensor in tree_leaves(output):
            if isinstance(tensor, Tensor) and (value := self._now.get(_storage(tensor))):
                value.strangers += 1

    def _passes(self, given: list[Tensor], made: Tensor) -> bool:
        value = self._now.get(_storage(given[0])) if given else None
        if value is None:
            return False
        same = made.shape == given[0].shape
        if not same and (made.dim() == 0 or made.shape[-1] != given[0].shape[-1]):
            return False
        value.reshaped |= not same
        value.tensors.append(made)
        self._now[_storage(made)] = value
        return True

    def _forget_event(self, result: Tensor) -> None:
        """Take back what the function of an operation was thought to take for itself."""
        for event in reversed(self._events):
            if event.result is result:
                for value in event.taken:
                    value.strangers -= 1
                self._now.update(event.overwritten)
                self._events.remove(event)
                return

    def _give(self, tensor: Tensor, source: Place | None, origins: frozenset[Place]) -> None:
        value = _Value(source, origins, [tensor])
        self._now[_storage(tensor)] = value
        self.values.append(value)


def flow(model: nn.Module, batches: Batches) -> Flow:
    """How values flow between the operations of a model, on the first batch."""
    found = Flow()
    with quiet(model), found, watching(model, found.call):
        output = model(*batches.first.args, **batches.first.kwargs)
    found.give_back(output)
    return found


def _storage(tensor: Tensor) -> int:
    with torch._C.DisableTorchFunction():
        return int(tensor.untyped_storage()._cdata)
