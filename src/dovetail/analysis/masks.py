"""The masks of an emulated model: what is kept where, and what hardware could make of it."""

from __future__ import annotations

import io
from collections.abc import Iterator
from dataclasses import dataclass
from typing import Any

import torch
from rich.console import Console
from rich.table import Table
from torch import Tensor, nn

from dovetail._batches import device_of, mode
from dovetail.analysis.layers import arguments
from dovetail.emulation.planned import PlannedOp
from dovetail.emulation.scoring import weight_of
from dovetail.emulation.sparsifying import current_mask
from dovetail.emulation.taps import Watched, tap
from dovetail.errors import DovetailError
from dovetail.kinds import block_axis
from dovetail.sparsity.statistics import Statistics, statistics

__all__ = ["MaskRow", "MaskTable", "masks"]


@dataclass(frozen=True)
class MaskRow:
    """The mask of one operation."""

    key: str
    sparsity: str
    mask: Tensor
    statistics: Statistics

    def to_dict(self) -> dict[str, Any]:
        """Plain values; the mask itself is left out."""
        return {"op": self.key, "sparsity": self.sparsity, **self.statistics.to_dict()}


@dataclass(frozen=True)
class MaskTable:
    """The rows, in the order in which the operations first ran."""

    rows: tuple[MaskRow, ...]

    def __iter__(self) -> Iterator[MaskRow]:
        return iter(self.rows)

    def __len__(self) -> int:
        return len(self.rows)

    def __getitem__(self, key: str) -> MaskRow:
        for row in self.rows:
            if row.key == key:
                return row
        raise KeyError(key)

    @property
    def density(self) -> float:
        """The share of all these weights that is kept."""
        total = sum(row.statistics.size for row in self.rows)
        return sum(row.statistics.kept for row in self.rows) / max(1, total)

    def to_dict(self) -> dict[str, Any]:
        """The same as plain values."""
        return {"density": self.density, "rows": [row.to_dict() for row in self.rows]}

    def table(self, width: int = 100) -> str:
        """A table of operation, sparsity, density, evenness and empty parts."""
        table = Table(box=None, pad_edge=False, header_style="bold")
        for name in ("operation", "sparsity", "kept", "density", "an output keeps", "empty"):
            table.add_column(name, overflow="fold")
        for row in self.rows:
            s = row.statistics
            empty = [f"{s.empty_outputs} outputs", f"{s.empty_inputs} inputs"]
            empty += [f"{share:.0%} of {tile}" for tile, share in s.empty_tiles.items() if share]
            table.add_row(
                row.key,
                row.sparsity,
                f"{s.kept}/{s.size}",
                f"{s.density:.2%}",
                f"{s.least}..{s.most}",
                ", ".join(empty),
            )
        out = io.StringIO()
        console = Console(file=out, width=width, color_system=None)
        console.print(table)
        console.print(f"in all {self.density:.2%} kept")
        return out.getvalue()

    def __str__(self) -> str:
        return self.table()


def masks(model: nn.Module, batch: Any) -> MaskTable:
    """The mask of every sparse operation that an emulated ``model`` calls on a batch of inputs.

    ``batch`` is a tensor, a tuple of positional arguments or a dict of keyword arguments. The model
    runs once, in eval mode and without gradients. Masks have the shape of the weight in normal
    form: outputs first.

    >>> import dovetail as dv
    >>> net = nn.Sequential(nn.Linear(8, 4))
    >>> _ = dv.apply_(net, dv.Recipe(dv.rule("*", sparsity="2:8")), torch.zeros(1, 8))
    >>> masks(net, torch.zeros(1, 8))["0"].statistics.density
    0.25
    """
    found: dict[str, MaskRow] = {}

    def watch(op: PlannedOp, call: Watched) -> None:
        if call.site.sparsity is not None and op.key not in found:
            mask = current_mask(call.site, call.module, weight_of(call.call))
            facts = statistics(mask, block_axis(op.kind, "weight"))
            found[op.key] = MaskRow(op.key, call.site.sparsity_text, mask.clone(), facts)

    inputs, keywords = arguments(batch, device_of(model))
    with mode(model, training=False), torch.no_grad(), tap(model, watch):
        model(*inputs, **keywords)
    if not found:
        raise DovetailError(f"this {type(model).__name__} called no sparse operation")
    return MaskTable(tuple(found.values()))
