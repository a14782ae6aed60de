"""ONNX nodes put together one after the other: the body of one function."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

import numpy as np
import numpy.typing as npt

from dovetail._optional import optional

__all__ = ["DOMAIN", "IR_VERSION", "OPSET", "Nodes", "opsets"]

#: Of every file: reductions take their axes as an input from here on, and runtimes of 2023 read it.
OPSET, IR_VERSION = 18, 8
#: Of the functions that stand for emulated operations until they are inlined.
DOMAIN = "dovetail"


def opsets(*, functions: bool) -> list[Any]:
    """The operator sets that a file of ours imports."""
    helper = optional("onnx.helper", extra="onnx")
    own = [helper.make_opsetid(DOMAIN, 1)] if functions else []
    return [helper.make_opsetid("", OPSET), *own]


class Nodes:
    """A growing list of nodes; calling it adds one and returns the name of its result.

    >>> nodes = Nodes()
    >>> nodes("Mul", "x", nodes.constant(np.float32(2.0)))
    'v1'
    >>> [node.op_type for node in nodes.made]
    ['Constant', 'Mul']
    """

    def __init__(self, wide: type[np.floating[Any]] = np.float32) -> None:
        #: What the nodes compute in: float32, or float64.
        self.wide = wide
        self.made: list[Any] = []
        self._helper = optional("onnx.helper", extra="onnx")
        self._arrays = optional("onnx.numpy_helper", extra="onnx")
        self._constants: dict[tuple[Any, ...], str] = {}

    def __call__(self, op: str, *inputs: str, **attributes: Any) -> str:
        name = f"v{len(self.made)}"
        self.made.append(self._helper.make_node(op, list(inputs), [name], **attributes))
        return name

    def constant(self, value: npt.ArrayLike) -> str:
        """The name of a constant tensor; the same one for the same values."""
        array = np.asarray(value)
        key = (array.dtype.str, array.shape, array.tobytes())
        if key not in self._constants:
            self._constants[key] = self("Constant", value=self._arrays.from_array(array))
        return self._constants[key]

    def float(self, value: float) -> str:
        """One number of the type that is computed in."""
        with np.errstate(over="ignore"):
            return self.constant(np.array(value, self.wide))

    def ints(self, *values: int) -> str:
        """A vector of int64: axes, shapes, indices."""
        return self.constant(np.array(values, dtype=np.int64))

    def cast(self, x: str, to: str) -> str:
        """``x`` in another element type, named as ONNX does: ``FLOAT``, ``INT64``, ..."""
        return self("Cast", x, to=self._type(to))

    def widened(self, x: str) -> str:
        """``x`` in the type that is computed in."""
        return self.cast(x, "FLOAT" if self.wide is np.float32 else "DOUBLE")

    def _type(self, name: str) -> int:
        return int(optional("onnx", extra="onnx").TensorProto.DataType.Value(name))

    def reshape(self, x: str, shape: Sequence[int]) -> str:
        """``x`` in another shape, in which 0 keeps an axis and -1 is what is left."""
        return self("Reshape", x, self.ints(*shape))
