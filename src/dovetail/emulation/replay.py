"""A forward pass run again from the middle: what was computed before it is taken from a tape.

:func:`record` runs a model once and keeps what every torch function gave that the modules called,
operations of the plan or not. :func:`replay` runs the model again and gives the same tensors to the
same calls, in order, up to one call; from there on everything is computed. The modules' own Python
code runs as ever, so control flow is free, and nothing of the model is rewritten.

What shares memory with its arguments (views), writes to them, or gives no tensor is computed also
before that call: it is cheap, or has to be done. A tensor that is written to later stands on the
tape as it was before, and a copy of it is given out. So a replayed model computes the same bits as
long as its forward pass is a function of its arguments, its tensors and torch's generator.
"""

from __future__ import annotations

from abc import ABC, abstractmethod
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from dataclasses import dataclass, field
from typing import Any, NamedTuple

import torch
from torch import Tensor, nn
from torch.utils._pytree import tree_leaves, tree_map

from dovetail.emulation.mode import Mode
from dovetail.emulation.stand_in import standing_in
from dovetail.errors import DovetailError

__all__ = ["Pass", "Replaying", "Tape", "record", "replay"]


class _Played(NamedTuple):
    """One call: the function, what it gave (``None``: it is computed again), whether copies of that
    are given out, how the module's calls were counted after it, and the generator's state before
    it, if anything is drawn."""

    function: Any
    result: Any
    copied: bool
    counts: dict[str, int]
    state: Tensor | None


class _Call(NamedTuple):
    """One call as it is made: how to compute it, in which module's mode, the function, and its
    arguments."""

    compute: Callable[[], Any]
    mode: Mode
    function: Any
    given: Any


@dataclass
class Tape:
    """The calls of one forward pass, and what it returned."""

    calls: list[_Played] = field(default_factory=list)
    output: Any = None
    versions: dict[int, list[tuple[Tensor, int]]] = field(default_factory=dict)

    @property
    def written(self) -> frozenset[int]:
        """The calls that gave what was written to since then."""
        return frozenset(
            place
            for place, seen in self.versions.items()
            if any(_version(t) != version for t, version in seen)
        )


class Pass(ABC):
    """One forward pass; ``position`` is how many calls were begun in it."""

    def __init__(self) -> None:
        self.position = 0
        self._inside = False

    @property
    def current(self) -> int:
        """Which call is being computed."""
        return self.position - 1

    def call(self, call: _Call) -> Any:
        """Carry out one call of a torch function, unless another one makes it."""
        if self._inside or torch._C._are_functorch_transforms_active():
            return call.compute()
        self.position += 1
        self._inside = True
        try:
            return self._carry_out(call)
        finally:
            self._inside = False

    @abstractmethod
    def _carry_out(self, call: _Call) -> Any:
        """What the call gives."""


class _Recording(Pass):
    """A pass that fills a tape. Of the calls ``copied`` what they gave is written to later."""

    def __init__(self, copied: frozenset[int], draws: bool) -> None:
        super().__init__()
        self.tape, self.copied, self.draws = Tape(), copied, draws

    def _carry_out(self, call: _Call) -> Any:
        taken = _tensors(call.given)
        before = [_version(t) for t in taken]
        state = torch.get_rng_state() if self.draws else None
        result = call.compute()
        place, made = self.current, _tensors(result)
        wrote = any(_version(t) != v for t, v in zip(taken, before, strict=True))
        kept, copied = None, place in self.copied
        if made and not wrote and _is_new(made, taken):
            kept = tree_map(_clone, result) if copied else result
            self.tape.versions[place] = [(t, _version(t)) for t in made]
        counts = dict(call.mode.counts)
        self.tape.calls.append(_Played(call.function, kept, copied, counts, state))
        return result


class Replaying(Pass):
    """A pass that takes what it can from a tape, up to the call ``start``."""

    def __init__(self, tape: Tape, start: int) -> None:
        super().__init__()
        self.tape, self.start = tape, start

    def skip_to(self, start: int) -> None:
        """Take what the tape has up to that call: nothing has changed so far."""
        self.start = start

    def _carry_out(self, call: _Call) -> Any:
        place = self.current
        known = self.tape.calls[place] if place < len(self.tape.calls) else None
        same = known is not None and known.function == call.function  # getters are made anew
        if place >= self.start:
            if known is not None and same and known.state is not None:
                torch.set_rng_state(known.state)  # the same draws as on the tape
            return call.compute()
        if known is None or not same:
            raise DovetailError(
                "the model's forward pass called other functions than the time before, on the same "
                "inputs, so none of it can be replayed: give cache=False"
            )
        if known.result is None:
            return call.compute()
        call.mode.counts.update(known.counts)
        return tree_map(_clone, known.result) if known.copied else known.result


def record(model: nn.Module, run: Callable[[], Any], begin: Callable[[Pass], None]) -> Tape:
    """The tape of ``run()``, which calls ``model``; ``begin`` is told each pass that this takes.

    A second pass is needed where tensors are written to after they were given out, or where random
    numbers are drawn.
    """
    copied: frozenset[int] = frozenset()
    draws = False
    while True:
        state = torch.get_rng_state()
        recording = _Recording(copied, draws)
        begin(recording)
        with _under(model, recording):
            recording.tape.output = run()
        drew = not torch.equal(torch.get_rng_state(), state)
        written = recording.tape.written
        if written <= copied and drew <= draws:
            for place in written:  # they stand on the tape as copies
                del recording.tape.versions[place]
            return recording.tape
        copied, draws = copied | written, draws or drew
        torch.set_rng_state(state)


@contextmanager
def replay(model: nn.Module, tape: Tape, start: int) -> Iterator[Replaying]:
    """Within, ``model`` takes what it computes before the call ``start`` from ``tape``; for one
    forward pass on the same inputs.

    >>> net, x = nn.Sequential(nn.Linear(2, 2), nn.Tanh()), torch.ones(1, 2)
    >>> with torch.no_grad():
    ...     tape = record(net, lambda: net(x), lambda _: None)
    ...     with replay(net, tape, len(tape.calls)):
    ...         again = net(x)
    >>> torch.equal(again, tape.output), [call.function.__name__ for call in tape.calls]
    (True, ['linear', 'tanh'])
    """
    replaying = Replaying(tape, start)
    with _under(model, replaying):
        yield replaying
    if tape.written:
        raise DovetailError(
            "the model's forward pass wrote to a tensor that it does not write to on the way that "
            "was recorded, so it cannot be replayed any more: give cache=False"
        )


@contextmanager
def _under(model: nn.Module, now: Pass) -> Iterator[None]:
    with standing_in(model, lambda _path, _module, entry: _Player(now, entry)):
        yield


class _Key(NamedTuple):
    """What a table gives for a function: the function, to be looked up in the module's own."""

    function: Any


class _Everything:
    """A table that has every function."""

    def get(self, key: Any) -> _Key:
        return _Key(key)


_EVERYTHING = _Everything()


class _Player:
    """An entry that has every call of its module carried out by the pass; those of the module's own
    entry as that says."""

    def __init__(self, now: Pass, entry: Any) -> None:
        self.now, self.entry, self.table = now, entry, _EVERYTHING

    def handle(
        self,
        mode: Mode,
        key: _Key,
        func: Callable[..., Any],
        args: tuple[Any, ...],
        kwargs: dict[str, Any],
    ) -> Any:
        def compute() -> Any:
            reader = None if self.entry is None else self.entry.table.get(key.function)
            if reader is None:
                return func(*args, **kwargs)
            return self.entry.handle(mode, reader, func, args, kwargs)

        return self.now.call(_Call(compute, mode, key.function, (args, kwargs)))


def _tensors(tree: Any) -> list[Tensor]:
    return [leaf for leaf in tree_leaves(tree) if isinstance(leaf, Tensor)]


def _version(tensor: Tensor) -> int:
    return -1 if tensor.is_inference() else tensor._version


def _is_new(made: list[Tensor], taken: list[Tensor]) -> bool:
    """Whether the results are plain tensors in memory of their own."""
    if not all(type(t) is Tensor and t.layout is torch.strided and not t.is_meta for t in made):
        return False
    known = {_storage(t) for t in taken if t.layout is torch.strided and not t.is_meta}
    return known.isdisjoint(_storage(t) for t in made)


def _storage(tensor: Tensor) -> int:
    return int(tensor.untyped_storage()._cdata)


def _clone(value: Any) -> Any:
    return value.clone() if isinstance(value, Tensor) else value
