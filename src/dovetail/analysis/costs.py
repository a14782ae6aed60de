"""Multiplications, bit operations and weight storage of an emulated model, by operation."""

from __future__ import annotations

import io
import math
from collections.abc import Iterator
from dataclasses import asdict, dataclass
from typing import Any

import torch
from rich.console import Console
from rich.table import Table
from torch import nn

from dovetail.emulation.planned import PlannedOp
from dovetail.emulation.state import sites
from dovetail.formats import Format

__all__ = ["CostRow", "Costs", "costs"]


@dataclass(frozen=True)
class CostRow:
    """One operation on the example batch.

    ``macs`` are all products of the dense operation, ``flops`` those of weights that are kept
    (``macs`` times ``density``); ``bops`` is ``flops`` times the bits of an input times the bits of
    a weight; ``weights`` counts the weights that are kept, ``weight_bytes`` what they take in the
    format that they are stored in, shared scales included. ``None`` where the plan was made without
    an example, ``density`` also where chance decides.
    """

    key: str
    kind: str
    macs: int | None
    density: float | None
    flops: float | None
    bops: float | None
    weights: float | None
    weight_bytes: float | None


@dataclass(frozen=True)
class Costs:
    """The rows in the order of the plan."""

    rows: tuple[CostRow, ...]

    def __iter__(self) -> Iterator[CostRow]:
        return iter(self.rows)

    def __len__(self) -> int:
        return len(self.rows)

    def __getitem__(self, key: str) -> CostRow:
        for row in self.rows:
            if row.key == key:
                return row
        raise KeyError(key)

    def total(self, name: str) -> float:
        """The sum of one column over the operations of which it is known."""
        return math.fsum(value for row in self.rows if (value := getattr(row, name)) is not None)

    def to_dict(self) -> dict[str, Any]:
        """Plain values, for JSON."""
        return {
            "rows": [asdict(row) for row in self.rows],
            "total": {name: self.total(name) for name in _COLUMNS},
        }

    def table(self, width: int = 100) -> str:
        """A table, ``width`` characters wide, with the totals below."""
        table = Table(box=None, pad_edge=False, header_style="bold")
        table.add_column("operation", overflow="fold")
        table.add_column("density", justify="right")
        for name in _COLUMNS:
            table.add_column(name.replace("_", " "), justify="right")
        for row in self.rows:
            density = "–" if row.density is None else f"{row.density:.3f}"
            table.add_row(row.key, density, *(_shown(getattr(row, name)) for name in _COLUMNS))
        table.add_row("total", "", *(_shown(self.total(name)) for name in _COLUMNS))
        out = io.StringIO()
        Console(file=out, width=width, color_system=None).print(table)
        return out.getvalue()

    def __str__(self) -> str:
        return self.table()


_COLUMNS = ("macs", "flops", "bops", "weights", "weight_bytes")


def costs(model: nn.Module) -> Costs:
    """What the products of an emulated model cost, on the example that it was applied with.

    An operand without a format counts the bits of the parameter's dtype.

    >>> import dovetail as dv
    >>> net = nn.Linear(8, 24)
    >>> halved = dv.rule(input="BFP16_128", weight="BFP12_128", sparsity="BTOPK{4:8,-1}(U)")
    >>> _ = dv.apply_(net, dv.Recipe(halved), torch.ones(8, 8))
    >>> row = costs(net)["."]
    >>> row.flops, int(row.bops), row.weights, row.weight_bytes
    (768.0, 25155, 96.0, 48.75)
    """
    rows = (_row(site.op, module) for site, module in sites(model) if site.op.macs is not None)
    return Costs(tuple(rows))


def _row(op: PlannedOp, module: nn.Module) -> CostRow:
    arithmetic = op.arithmetic
    density = 1.0 if arithmetic.sparsity is None else arithmetic.sparsity.density
    bits = _dtype(module).itemsize * 8
    flops = bops = weights = size = None
    if density is not None and op.macs is not None:
        flops = op.macs * density
        bops = flops * _bits(arithmetic.input, bits) * _bits(arithmetic.weight, bits)
    if density is not None and op.weight_shape is not None:
        # The second operand of a matmul is computed, not stored.
        weights = 0.0 if op.kind == "matmul" else math.prod(op.weight_shape) * density
        stored = arithmetic.weight_storage or arithmetic.weight
        size = weights * _bits(stored, bits) / 8
    return CostRow(op.key, op.kind, op.macs, density, flops, bops, weights, size)


def _bits(fmt: Format | None, otherwise: int) -> float:
    return otherwise if fmt is None else fmt.bytes_per_element * 8


def _dtype(module: nn.Module) -> torch.dtype:
    floating = (p.dtype for p in module.parameters() if p.is_floating_point())
    return next(floating, torch.get_default_dtype())


def _shown(value: float | None) -> str:
    return "–" if value is None else f"{value:,.0f}"
