"""What a program is made of: buffers, references to them, and groups in the order they run.

This is the compiler's own level between an FX graph and an SDFG. A :class:`Loops` group is one
parallel nest over ``shape``: all its statements are computed for an element before the next. With
``reduced`` dimensions it is a row reduction (softmax, norms, sums): row statements then hold one
value per index of the other dimensions, and reductions make them of full statements.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass, field
from typing import Any

import torch

from dovetail.compiler.groups.layout import Dim, Layout, total

__all__ = [
    "Access",
    "Buffer",
    "Call",
    "Constant",
    "Group",
    "Index",
    "Loops",
    "Program",
    "Reduction",
    "Ref",
    "Statement",
    "View",
]


@dataclass
class Buffer:
    """Memory for ``size`` elements. ``role`` is input, output, temporary or constant."""

    name: str
    size: Dim
    dtype: torch.dtype
    role: str = "temporary"
    #: The tensor of a constant that was folded when compiling.
    value: torch.Tensor | None = None

    @property
    def bytes(self) -> Dim:
        """Its size in bytes."""
        return self.size * self.dtype.itemsize


@dataclass(frozen=True)
class Ref:
    """A tensor: the elements of ``buffer`` that ``layout`` names."""

    buffer: str
    layout: Layout
    dtype: torch.dtype

    @property
    def shape(self) -> tuple[Dim, ...]:
        """Its shape."""
        return self.layout.shape


@dataclass(frozen=True)
class Constant:
    """A tensor of one repeated value: no memory, a literal where it is used."""

    value: float | int | bool
    shape: tuple[Dim, ...]
    dtype: torch.dtype


@dataclass(frozen=True)
class Access:
    """One element of a buffer, at an index of the group: strides are by the group's dimensions."""

    buffer: str
    strides: tuple[Dim, ...]
    offset: Dim
    dtype: torch.dtype


@dataclass(frozen=True)
class Index:
    """A number made of the group's index: ``offset + sum(i[d] * strides[d])``."""

    strides: tuple[Dim, ...]
    offset: Dim


@dataclass(frozen=True)
class Statement:
    """``name = code``, where ``{0}``, ``{1}``, ... stand for the operands.

    An operand is another statement's name, an :class:`Access` or an :class:`Index`.
    """

    name: str
    code: str
    operands: tuple[str | Access | Index, ...]
    dtype: torch.dtype
    row: bool
    origin: str
    #: Floating-point operations per element, for the report.
    flops: int = 1
    #: Whether computing it twice costs more than keeping it.
    dear: bool = False


@dataclass(frozen=True)
class Reduction:
    """``name`` = the ``kind`` (sum, prod, max, min) of ``operand`` over the reduced dimensions."""

    name: str
    kind: str
    operand: str | Access
    dtype: torch.dtype
    origin: str
    row: bool = True
    flops: int = 1
    dear: bool = True


@dataclass
class Loops:
    """An elementwise group, or with a reduced dimension a row reduction."""

    shape: tuple[Dim, ...]
    reduced: tuple[bool, ...]
    body: list[Statement | Reduction] = field(default_factory=list)
    #: What is written to memory: the statement's name and where its elements go.
    stores: list[tuple[str, Access]] = field(default_factory=list)

    @property
    def is_reduction(self) -> bool:
        """Whether any dimension is reduced."""
        return any(self.reduced)

    @property
    def kept_shape(self) -> tuple[Dim, ...]:
        """The dimensions that row values have."""
        return tuple(e for e, r in zip(self.shape, self.reduced, strict=True) if not r)

    @property
    def reduced_shape(self) -> tuple[Dim, ...]:
        """The dimensions that reductions run over."""
        return tuple(e for e, r in zip(self.shape, self.reduced, strict=True) if r)

    @property
    def operations(self) -> Dim:
        """Scalar operations of one run."""
        rows = total(self.kept_shape)
        each: Dim = sum(s.flops for s in self.body if not s.row or isinstance(s, Reduction))
        return total(self.shape) * each + rows * sum(
            s.flops for s in self.body if s.row and not isinstance(s, Reduction)
        )


@dataclass
class Call:
    """One library node: a kernel for a whole operator."""

    name: str
    key: str
    inputs: list[Any]  # Ref, None or a list of them, in the order of the operator's schema
    outputs: list[Ref | None]
    attributes: dict[str, Any]
    implementation: str | None = None


@dataclass
class View:
    """Another name for elements of a buffer: costs nothing, emits nothing."""

    name: str
    source: Ref


Group = Loops | Call | View


@dataclass
class Program:
    """One compiled function: forward or backward."""

    name: str
    buffers: dict[str, Buffer]
    groups: list[Group]
    inputs: list[str | None]
    #: One per result: what is returned may be a part of an input, or a size.
    outputs: list[Ref | Dim | None]
    #: Where the value of each symbol is found: an input and its dimension; -1: the input is it.
    symbols: dict[str, tuple[int, int]] = field(default_factory=dict)
    #: Results that are new values of inputs: their numbers by those of the results.
    updates: dict[int, int] = field(default_factory=dict)
    #: The inputs whose new values are written in their own memory: their numbers.
    written: list[int] = field(default_factory=list)
    #: Results that are intermediate values which were asked for: their numbers by name.
    transients: dict[str, int] = field(default_factory=dict)
    #: The layout that each input is expected to have.
    given: dict[str, Layout] = field(default_factory=dict)
    #: The inputs that nobody needs any more once they are read: their memory is there for others.
    donated: tuple[str, ...] = ()
    #: Where it runs, and where its buffers are: cpu or cuda.
    target: str = "cpu"

    def __str__(self) -> str:
        from dovetail.compiler.groups.show import text

        return text(self)

    @property
    def results(self) -> list[Ref]:
        """The results that are tensors."""
        return [ref for ref in self.outputs if isinstance(ref, Ref)]

    def loops(self) -> Sequence[Loops]:
        """Its elementwise and row-reduction groups."""
        return [group for group in self.groups if isinstance(group, Loops)]
