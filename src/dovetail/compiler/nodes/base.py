"""What a library node is told: its operands, and the arguments that are no tensors."""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, field
from typing import Any

import torch

from dovetail.errors import DovetailError

__all__ = ["TARGETS", "Call", "NodeSpec", "Operand", "is_symbolic"]

#: Where a program can run.
TARGETS = ("cpu", "cuda")


def is_symbolic(value: Any) -> bool:
    """Whether a number is an expression of SymPy, which need not be loaded to ask.

    >>> is_symbolic(3)
    False
    """
    return hasattr(value, "free_symbols")


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
    #: Where its arrays are: one of ``TARGETS``.
    target: str = "cpu"


@dataclass(frozen=True)
class NodeSpec:
    """An operator that becomes a library node, and its implementations in order of preference."""

    key: str
    implementations: tuple[str, ...]
    refusals: Mapping[str, Callable[[Call], str | None]] = field(default_factory=dict)

    def refusal(self, call: Call, implementation: str) -> str | None:
        """Why ``implementation`` cannot compute this call; None where it can."""
        if implementation not in self.implementations:
            known = ", ".join(self.implementations)
            return f"{self.key} has no implementation '{implementation}': {known}"
        if implementation == "native" and call.target == "cuda":
            return "dovetail's core computes in host memory"
        why = self.refusals.get(implementation)
        return why(call) if why else None

    def choose(self, call: Call, implementation: str | None = None) -> str:
        """The implementation asked for, or the first that can compute this call."""
        asked = self._ordered(call) if implementation is None else (implementation,)
        reasons = {name: self.refusal(call, name) for name in asked}
        for name, reason in reasons.items():
            if reason is None:
                return name
        raise DovetailError("; ".join(f"{name}: {why}" for name, why in reasons.items()))

    def _ordered(self, call: Call) -> Sequence[str]:
        """Preferred first; on a GPU what asks Python comes after what is generated."""
        if call.target == "cpu":
            return self.implementations
        return sorted(self.implementations, key=lambda name: name == "native-op")

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
        default. Without ``implementation`` it is the first that can compute this call. The state's
        newest access node of an array is read, and written unless the same call reads it.
        """
        from dovetail.compiler.nodes.operator import add_operator, target_of

        target = target_of(sdfg, (*inputs, *outputs))
        call = Call(self.key, tuple(inputs), tuple(outputs), dict(attributes), target)
        return add_operator(state, sdfg, call, self.choose(call, implementation))
