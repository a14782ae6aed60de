"""What a library node is told: its operands, and the arguments that are no tensors."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Any

import torch

from dovetail.errors import DovetailError

__all__ = ["Call", "NodeSpec", "Operand"]


@dataclass(frozen=True)
class Operand:
    """A tensor inside an array of an SDFG: element ``i`` lies at ``offset + sum(i * strides)``.

    Sizes, strides and offset count elements, and are integers or symbolic expressions.

    >>> Operand("x", (2, 3), (3, 1), 0, torch.float32).contiguous
    True
    """

    data: str
    shape: tuple[Any, ...]
    strides: tuple[Any, ...]
    offset: Any
    dtype: torch.dtype

    @property
    def contiguous(self) -> bool:
        """Whether the elements follow each other in row-major order."""
        expected: Any = 1
        for size, stride in zip(reversed(self.shape), reversed(self.strides), strict=True):
            if size != 1 and stride != expected:
                return False
            expected = expected * size
        return True


@dataclass(frozen=True, eq=False)
class Call:
    """One call of an operator: tensors in the order of its schema, the other arguments by name.

    An optional tensor that is not given, and a result that nobody wants, is ``None``.
    """

    key: str
    inputs: tuple[Operand | None, ...]
    outputs: tuple[Operand | None, ...]
    attributes: Mapping[str, Any]


@dataclass(frozen=True)
class NodeSpec:
    """An operator that becomes a library node, and its implementations in order of preference."""

    key: str
    implementations: tuple[str, ...]

    def add(
        self,
        state: Any,
        sdfg: Any,
        inputs: Sequence[Operand | None],
        outputs: Sequence[Operand | None],
        attributes: Mapping[str, Any],
        implementation: str | None = None,
    ) -> Any:
        """Put the operator into ``state`` and wire it to arrays that ``sdfg`` already has.

        ``attributes`` holds FX constants by the name of the argument; one that is missing has its
        default. Without ``implementation`` the first of ``implementations`` is taken. The state's
        newest access node of an array is read, and written unless the same call reads it.
        """
        from dovetail.compiler.nodes.operator import add_operator

        if implementation is not None and implementation not in self.implementations:
            known = ", ".join(self.implementations)
            raise DovetailError(f"{self.key} has no implementation '{implementation}': {known}")
        chosen = implementation or self.implementations[0]
        call = Call(self.key, tuple(inputs), tuple(outputs), dict(attributes))
        return add_operator(state, sdfg, call, chosen)
