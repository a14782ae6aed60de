"""One arena for what a program computes on the way: buffers that are never alive together overlap.

The plan is made on the finished SDFG, after every transformation, from the order of its states.
Inputs that nobody needs afterwards (what forward has left for backward) are memory, too, from the
state after the last one that reads them.
"""

from __future__ import annotations

from collections.abc import Iterable, Sequence
from dataclasses import dataclass, field
from typing import Any

from dovetail.compiler.engine import load_dace

__all__ = ["Arena", "Span", "chain", "pack", "plan"]

#: Bytes that every buffer begins at a multiple of: a cache line, and the widest vector.
ALIGNMENT = 64


@dataclass(frozen=True)
class Span:
    """``size`` bytes needed from step ``first`` to step ``last``."""

    name: str
    size: int
    first: int
    last: int


@dataclass(frozen=True)
class Arena:
    """Where each buffer begins, and how many bytes all of them take.

    Those in ``inside`` begin somewhere in an input, so many bytes after its first.
    """

    offsets: dict[str, int]
    size: int
    inside: dict[str, tuple[str, int]] = field(default_factory=dict)


def pack(spans: Iterable[Span], given: Iterable[Span] = ()) -> Arena:
    """The lowest place for each, the largest first, beside all that live at the same time.

    What fits into one of ``given``, which are needed from outside until their last step, is there.

    >>> pack([Span("a", 64, 0, 1), Span("b", 64, 1, 2), Span("c", 64, 2, 3)])
    Arena(offsets={'a': 0, 'b': 64, 'c': 0}, size=128, inside={})
    >>> pack([Span("a", 64, 0, 1), Span("b", 64, 1, 2)], [Span("x", 100, 0, 0)])
    Arena(offsets={'a': 0}, size=64, inside={'b': ('x', 0)})
    """
    pieces = [(piece, [(piece, 0)]) for piece in sorted(given, key=lambda s: (s.size, s.name))]
    own: list[tuple[Span, int]] = []
    inside = {}
    for span in sorted(spans, key=lambda s: (-s.size, s.first, s.name)):
        for piece, placed in pieces:
            place = _lowest(span, placed)
            if place + span.size <= piece.size:
                placed.append((span, place))
                inside[span.name] = piece.name, place
                break
        else:
            own.append((span, _lowest(span, own)))
    size = max((start + span.size for span, start in own), default=0)
    return Arena({span.name: start for span, start in own}, _aligned(size), inside)


def _lowest(span: Span, placed: Iterable[tuple[Span, int]]) -> int:
    """The lowest place beside those of ``placed`` that live at the same time."""
    place = 0
    for other, start in sorted(placed, key=lambda item: item[1]):
        apart = other.last < span.first or span.last < other.first
        if not apart and start < place + span.size and place < start + other.size:
            place = _aligned(start + other.size)
    return place


def _aligned(place: int) -> int:
    return -(-place // ALIGNMENT) * ALIGNMENT


def plan(sdfg: Any, donated: Iterable[str] = ()) -> Arena:
    """Make the arrays that ``sdfg`` would allocate its arguments, and say where they lie.

    ``donated`` are inputs that nobody needs any more once they are read. Arrays of symbolic size,
    and those used where states are not a chain, stay as they are.
    """
    dace = load_dace()
    order = chain(sdfg)
    if order is None:
        return Arena({}, 0)
    used: dict[str, list[int]] = {}
    for step, state in enumerate(order):
        for node in state.data_nodes():
            used.setdefault(node.data, []).append(step)
    given = [_donated(sdfg.arrays[name], name, used) for name in donated if name in sdfg.arrays]
    spans = []
    for name, steps in used.items():
        array = sdfg.arrays[name]
        registers = array.storage == dace.StorageType.Register
        if not array.transient or registers or type(array) is not dace.data.Array:
            continue
        size = array.total_size * array.dtype.bytes
        if dace.symbolic.issymbolic(size):
            continue
        spans.append(Span(name, int(size), min(steps), max(steps)))
        array.transient = False
    return pack(spans, given)


def _donated(array: Any, name: str, used: dict[str, list[int]]) -> Span:
    """An input, which is there from the beginning."""
    return Span(name, int(array.total_size * array.dtype.bytes), 0, max(used.get(name, [0])))


def chain(sdfg: Any) -> Sequence[Any] | None:
    """The states in the order they run, if they run one after the other; else None."""
    state = sdfg.start_block
    found = [state]
    while sdfg.out_degree(state):
        edges = sdfg.out_edges(state)
        if len(edges) != 1 or not edges[0].data.is_unconditional():
            return None
        state = edges[0].dst
        found.append(state)
    plain = all(isinstance(s, load_dace().SDFGState) for s in found)
    return found if plain and len(found) == sdfg.number_of_nodes() else None
