"""Parameters and buffers that a compiled function holds as constants, and whether they changed."""

from __future__ import annotations

from array import array
from collections.abc import Sequence
from typing import Any

from torch import Tensor, fx

from dovetail.compiler.build.kernel import sample
from dovetail.compiler.passes.constants import FROZEN

__all__ = ["Frozen", "Slot", "mark"]

#: The dictionary that a parameter or a buffer is in, and its name there.
Slot = tuple[dict[str, Any], str]


def mark(graph: fx.GraphModule, slots: Sequence[Slot], mutated: Sequence[int]) -> None:
    """Give the pass ``freeze_parameters`` the value of every slot that the graph only reads."""
    inputs = graph.graph.find_nodes(op="placeholder")
    for number, (node, (holder, name)) in enumerate(zip(inputs, slots, strict=False)):
        if number not in mutated and isinstance(holder[name], Tensor):
            node.meta[FROZEN] = holder[name].detach()


class Frozen:
    """The tensors in ``slots`` as they are now: ``changed`` says whether that is over.

    Another tensor in a slot is noticed, and every change that torch counts: all but those through
    ``.data`` or another library. Of those, what touches one of 64 words of a tensor is noticed.
    """

    def __init__(self, slots: Sequence[Slot]) -> None:
        tensors = [holder[name] for holder, name in slots]
        self._seen = [
            (holder, name, tensor, None if tensor.is_inference() else tensor._version)
            for (holder, name), tensor in zip(slots, tensors, strict=True)
        ]
        self._places = array("q", [n for t in tensors for n in _place(t)]).tobytes()
        self._sample = sample(self._places)

    def changed(self) -> bool:
        """Whether any of them is another tensor, or has other values."""
        for holder, name, tensor, version in self._seen:
            if holder[name] is not tensor or (version is not None and tensor._version != version):
                return True
        return sample(self._places) != self._sample


def _place(tensor: Tensor) -> tuple[int, int]:
    """Address and bytes of the memory that holds the tensor's elements."""
    if tensor.is_contiguous():
        return tensor.data_ptr(), tensor.numel() * tensor.itemsize
    storage = tensor.untyped_storage()
    return storage.data_ptr(), storage.nbytes()
