"""A plan: a recipe resolved against a model, op by op, with the rule each field came from."""

from __future__ import annotations

import io
from collections import Counter
from collections.abc import Iterator, Mapping
from dataclasses import dataclass, field
from typing import Any

import torch
from rich.console import Console
from rich.table import Table

from dovetail.arithmetic import Arithmetic
from dovetail.kinds import KINDS
from dovetail.recipe import OpAddress, Recipe, Rule

__all__ = ["Plan", "PlannedOp"]


@dataclass(frozen=True)
class PlannedOp:
    """One operation that the recipe addresses.

    Shapes are those of the example, ``None`` without one; ``macs`` counts its products over the
    whole example batch, ``reduction`` the products summed into one output. ``product`` says how a
    product is computed, in the words of
    :func:`dovetail.emulation.block_products.how_multiplied`. ``elements`` counts those of every
    operand and of the output, over all calls; ``dtype`` is the output's.
    """

    address: OpAddress
    arithmetic: Arithmetic
    origin: Mapping[str, Rule]
    module_type: str
    input_shape: tuple[int, ...] | None = None
    weight_shape: tuple[int, ...] | None = None
    output_shape: tuple[int, ...] | None = None
    macs: int | None = None
    reduction: int | None = None
    calls: int = 1
    product: str | None = None
    elements: Mapping[str, int] = field(default_factory=dict)
    dtype: torch.dtype | None = None

    @property
    def key(self) -> str:
        return self.address.key

    @property
    def path(self) -> str:
        return self.address.path

    @property
    def kind(self) -> str:
        return self.address.kind

    @property
    def index(self) -> int | None:
        return self.address.index

    @property
    def ranged_slots(self) -> tuple[str, ...]:
        """The slots whose scale must be calibrated: static integer formats of activations."""
        slots = {s: getattr(self.arithmetic, s) for s in KINDS[self.kind].activations}
        return tuple(s for s, f in slots.items() if f is not None and f.is_static)

    def to_dict(self) -> dict[str, Any]:
        """Plain values, for JSON."""
        return {
            "op": self.key,
            "path": self.path,
            "kind": self.kind,
            "index": self.index,
            "module": self.module_type,
            "arithmetic": self.arithmetic.describe(),
            "from": {name: rule.label for name, rule in self.origin.items()},
            "input_shape": self.input_shape,
            "weight_shape": self.weight_shape,
            "output_shape": self.output_shape,
            "macs": self.macs,
            "reduction": self.reduction,
            "product": self.product,
        }


@dataclass(frozen=True)
class Plan:
    """Every addressed operation, and what stays exact.

    ``exact`` are the operations that no rule asks anything of, ``left`` their addresses and
    ``left_exact`` their keys; ``uncovered`` are operations that no rule can reach yet; ``ranges``
    says where the activations' ranges came from when the plan was made (``example`` or
    ``missing``).
    """

    recipe: Recipe
    ops: tuple[PlannedOp, ...]
    exact: tuple[PlannedOp, ...] = ()
    uncovered: tuple[str, ...] = ()
    ranges: str = "missing"

    @property
    def left(self) -> tuple[OpAddress, ...]:
        return tuple(op.address for op in self.exact)

    @property
    def left_exact(self) -> tuple[str, ...]:
        return tuple(op.key for op in self.exact)

    def __iter__(self) -> Iterator[PlannedOp]:
        return iter(self.ops)

    def __len__(self) -> int:
        return len(self.ops)

    def __getitem__(self, key: str) -> PlannedOp:
        return next(op for op in self.ops if op.key == key)

    def to_dict(self) -> dict[str, Any]:
        """Plain values, for JSON."""
        return {
            "ops": [op.to_dict() for op in self.ops],
            "left_exact": list(self.left_exact),
            "uncovered": list(self.uncovered),
            "ranges": self.ranges,
        }

    def table(self, width: int = 100) -> str:
        """A table of operation, fields, values and rules, ``width`` characters wide."""
        table = Table(box=None, pad_edge=False, header_style="bold")
        for name in ("operation", "kind", "field", "value", "from"):
            table.add_column(name, overflow="fold")
        for op in self.ops:
            lead = (op.key, op.kind)
            for name, value in op.arithmetic.describe().items():
                source = op.origin[name].label if name in op.origin else ""
                table.add_row(*lead, name, value, source)
                lead = ("", "")
            if op.product is not None:
                table.add_row(*lead, "product", op.product, "")
        out = io.StringIO()
        console = Console(file=out, width=width, color_system=None)
        console.print(table)
        console.print(f"ranges: {self.ranges}" if self._ranged else "ranges: none needed")
        for title, names in (("left exact", self._left_shown()), ("not reachable", self.uncovered)):
            if names:
                console.print(f"{title}: {', '.join(names)}", soft_wrap=True)
        return out.getvalue()

    def _left_shown(self) -> list[str]:
        """The products by name; of the many other operations only how many of each kind."""
        named = [a.key for a in self.left if KINDS[a.kind].is_product]
        counts = Counter(a.kind for a in self.left if not KINDS[a.kind].is_product)
        return [*named, *(f"{n} {kind}" for kind, n in counts.items())]

    @property
    def _ranged(self) -> bool:
        return any(op.ranged_slots for op in self.ops)

    def __str__(self) -> str:
        return self.table()
