"""Intermediate values that are wanted as results, too."""

from __future__ import annotations

from collections.abc import Iterator, Sequence

from dovetail.compiler.groups.model import Call, Group, Loops, Ref
from dovetail.compiler.ops.builder import Builder, Value

__all__ = ["Watcher"]


class Watcher:
    """Collects the values of the nodes ``names``; True is all that are in memory anyway."""

    def __init__(self, builder: Builder, names: bool | Sequence[str]) -> None:
        self.builder = builder
        self.names = () if isinstance(names, bool) else tuple(names)
        self.all = names is True
        self._found: dict[str, Ref] = {}

    def see(self, name: str, value: Value) -> None:
        """The node ``name`` has been lowered to ``value``."""
        if name in self.names:
            self._found[name] = self.builder.former.in_memory(self.builder.tensor(value))
        elif self.all and isinstance(value, Ref) and value.buffer == name:
            self._found[name] = value

    def finish(self) -> None:
        """Make results of what was found, after all others."""
        former = self.builder.former
        program = former.program
        written = {name for group in former.groups for name in _written(group)}
        for name, ref in self._found.items():
            buffer = former.buffers[ref.buffer]
            if self.all and (ref.buffer not in written or buffer.role != "temporary"):
                continue
            if buffer.role == "temporary":
                buffer.role = "output"
            program.transients[name] = len(program.outputs)
            program.outputs.append(ref)


def _written(group: Group) -> Iterator[str]:
    """The buffers that a group writes to memory."""
    if isinstance(group, Call):
        yield from (ref.buffer for ref in group.outputs if ref is not None)
    elif isinstance(group, Loops):
        yield from (place.buffer for _, place in group.stores)
