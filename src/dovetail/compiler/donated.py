"""What forward leaves for backward, and backward alone: memory that it may use once it is read."""

from __future__ import annotations

from collections.abc import Sequence

from dovetail.compiler.groups.model import Program, Ref

__all__ = ["donated"]


def donated(
    forward: Program, backward: Program, sources: Sequence[tuple[bool, int]], first: int
) -> tuple[str, ...]:
    """The inputs of ``backward`` that are memory of their own which ``forward`` has made.

    ``sources`` says where each comes from, as of a ``Record``; ``first`` is the number of the first
    result of ``forward`` that no caller sees.
    """
    shown = [ref.buffer for ref in forward.results]
    returned = {ref.buffer for ref in backward.results}
    found = []
    for name, (given, number) in zip(backward.inputs, sources, strict=False):
        ref = None if given else forward.outputs[first + number]
        if name is None or name in returned or not isinstance(ref, Ref):
            continue
        made, taken = forward.buffers[ref.buffer], backward.buffers.get(name)
        if taken is None or made.role != "output" or shown.count(ref.buffer) > 1:
            continue
        same = (made.size, made.dtype) == (taken.size, taken.dtype)
        whole = ref.layout.offset == 0 and ref.layout.is_dense
        if same and whole and isinstance(made.size, int) and ref.layout == backward.given[name]:
            found.append(name)
    return tuple(found)
