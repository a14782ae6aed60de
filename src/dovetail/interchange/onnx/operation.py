"""One emulated operation of a captured graph, as those who write it to ONNX see it."""

from __future__ import annotations

import re
from collections.abc import Mapping

import numpy as np
import torch
from torch import Tensor, fx

from dovetail.errors import DovetailError
from dovetail.interchange.capture import module_path
from dovetail.interchange.onnx.nodes import Nodes

__all__ = ["ELEMENT_TYPES", "Operation"]

#: The element types that values may have, as ONNX names them.
ELEMENT_TYPES = {torch.float32: "FLOAT", torch.float16: "FLOAT16", torch.bfloat16: "BFLOAT16"}
ELEMENT_TYPES[torch.float64] = "DOUBLE"


class Operation:
    """``node`` and what is known of its arguments; ``x0``, ``x1``, ... are its other inputs.

    Its own nodes grow in ``nodes``; they compute in float32, or where such values come in, in
    float64.
    """

    def __init__(self, node: fx.Node, known: Mapping[fx.Node, Tensor], number: int) -> None:
        self.node, self.known = node, known
        self.kind = str(node.target).split(".")[1]
        self.path = module_path(node)
        self.inputs = [each for each in node.all_input_nodes if each not in known]
        dtypes = {each.meta["val"].dtype for each in (*self.inputs, node)}
        self.wide = torch.float64 if torch.float64 in dtypes else torch.float32
        self.nodes = Nodes(np.float64 if self.wide == torch.float64 else np.float32)
        self._floats: dict[fx.Node, str] = {}
        words = re.sub(r"\W+", "_", self.path).strip("_") or "model"
        self.name = f"{words}_{self.kind}_{number}"
        for each in (*self.inputs, node):
            if not each.meta["val"].dtype.is_floating_point:
                continue  # a seed, of what is refused by its name
            if each.meta["val"].dtype not in ELEMENT_TYPES:
                raise DovetailError(
                    f"{self.label}: values of {each.meta['val'].dtype} are not written to ONNX; "
                    "the nearest that are: torch.float32"
                )

    @property
    def label(self) -> str:
        """What messages and results call it."""
        return f"{self.path} ({self.kind})"

    def fixed(self, place: int) -> Tensor | None:
        """An argument that is a known tensor; None for all others."""
        argument = self.node.args[place]
        return self.known.get(argument) if isinstance(argument, fx.Node) else None

    def is_given(self, place: int) -> bool:
        """Whether an argument is a tensor at all."""
        return isinstance(self.node.args[place], fx.Node)

    def shape(self, place: int) -> tuple[int, ...]:
        """Of a tensor argument, in the example."""
        argument = self.node.args[place]
        assert isinstance(argument, fx.Node)
        found = self.known.get(argument)
        return tuple(argument.meta["val"].shape if found is None else found.shape)

    @property
    def result(self) -> tuple[int, ...]:
        """The shape of what it gives."""
        return tuple(self.node.meta["val"].shape)

    def value(self, place: int) -> str:
        """A tensor argument in the type that is computed in, by name."""
        argument = self.node.args[place]
        assert isinstance(argument, fx.Node)
        if argument not in self._floats:
            found = self.known.get(argument)
            if found is not None:
                name = self.nodes.constant(found.to(self.wide).contiguous().numpy())
            else:
                name = f"x{self.inputs.index(argument)}"
                if argument.meta["val"].dtype != self.wide:
                    name = self.nodes.widened(name)
            self._floats[argument] = name
        return self._floats[argument]

    def finished(self, y: str) -> str:
        """``y`` in the element type of the operation's result."""
        dtype = self.node.meta["val"].dtype
        return y if dtype == self.wide else self.nodes.cast(y, ELEMENT_TYPES[dtype])
