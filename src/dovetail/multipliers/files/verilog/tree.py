"""What a Verilog file says, as a tree: modules of nets, assignments, instances and gates."""

from __future__ import annotations

from dataclasses import dataclass, field
from typing import TypeAlias

__all__ = [
    "Assignment",
    "Binary",
    "Cast",
    "Choice",
    "Concat",
    "Expression",
    "Gate",
    "Instance",
    "Module",
    "Net",
    "Number",
    "Select",
    "Unary",
]


@dataclass(frozen=True)
class Number:
    """A literal; ``width`` is None where none is written (then it counts as 32 bits)."""

    value: int
    width: int | None
    signed: bool
    line: int


@dataclass(frozen=True)
class Select:
    """A net, whole or from bit ``high`` to bit ``low``."""

    name: str
    high: int | None
    low: int | None
    line: int


@dataclass(frozen=True)
class Concat:
    """``{a, b, ...}``, the first part the most significant."""

    parts: tuple[Expression, ...]
    line: int


@dataclass(frozen=True)
class Unary:
    """``~ - + !`` or a reduction."""

    operator: str
    operand: Expression
    line: int


@dataclass(frozen=True)
class Binary:
    """An operator between two expressions."""

    operator: str
    left: Expression
    right: Expression
    line: int


@dataclass(frozen=True)
class Choice:
    """``condition ? yes : no``."""

    condition: Expression
    yes: Expression
    no: Expression
    line: int


@dataclass(frozen=True)
class Cast:
    """``$signed(x)`` or ``$unsigned(x)``."""

    signed: bool
    operand: Expression
    line: int


Expression: TypeAlias = Number | Select | Concat | Unary | Binary | Choice | Cast


@dataclass(frozen=True)
class Net:
    """A declared vector; ``direction`` is ``input``, ``output`` or empty."""

    direction: str
    high: int
    low: int
    signed: bool
    line: int

    @property
    def width(self) -> int:
        """How many bits it has."""
        return abs(self.high - self.low) + 1


@dataclass(frozen=True)
class Assignment:
    """``assign target = value;``, or a wire declared with its value."""

    target: Expression
    value: Expression
    line: int


@dataclass(frozen=True)
class Gate:
    """A gate primitive: its output and its inputs."""

    kind: str
    terminals: tuple[Expression, ...]
    line: int


@dataclass(frozen=True)
class Instance:
    """Another module put in: each connection with its port's name, or by position without."""

    module: str
    name: str
    connections: tuple[tuple[str | None, Expression | None], ...]
    line: int


@dataclass
class Module:
    """One module; ``ports`` in the order of its head."""

    name: str
    line: int
    ports: list[str] = field(default_factory=list)
    nets: dict[str, Net] = field(default_factory=dict)
    assignments: list[Assignment] = field(default_factory=list)
    gates: list[Gate] = field(default_factory=list)
    instances: list[Instance] = field(default_factory=list)
