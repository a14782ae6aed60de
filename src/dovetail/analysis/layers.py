"""Per operation of an emulated model: what it got, what that changed, and what it costs."""

from __future__ import annotations

from collections.abc import Iterable, Iterator
from dataclasses import asdict, dataclass, field
from typing import Any

import torch
from torch import Tensor, nn

from dovetail._batches import device_of, mode
from dovetail.analysis.energy import mean_energy, op_energy
from dovetail.analysis.metrics import decibels, powers, sqnr_db
from dovetail.analysis.products import Changed, changed_products
from dovetail.arithmetic import Arithmetic
from dovetail.emulation.planned import PlannedOp
from dovetail.emulation.taps import MacCall, Watched, exact, tap
from dovetail.errors import DovetailError
from dovetail.kinds import KINDS, Kind
from dovetail.multipliers import FloatMultiplier, Multiplier

__all__ = ["LayerRow", "LayerTable", "Total", "arguments", "layers", "shown"]


@dataclass(frozen=True)
class LayerRow:
    """One emulated operation on one batch; ``None`` stands for "not applicable" or "unknown".

    ``macs`` is the number of its products; ``changed`` the share of them that are not ``a * w``;
    ``isolated_db`` its SQNR against the same operation done exactly on the same (already emulated)
    input; ``accumulated_db`` its SQNR against its output in the exact model; ``energy`` the energy
    of its products over that of exact ones of the same width.
    """

    key: str
    kind: str
    module: str
    arithmetic: str
    rule: str
    macs: int
    changed: float | None
    isolated_db: float
    accumulated_db: float | None
    energy: float | None

    def to_dict(self) -> dict[str, Any]:
        """The same by field name."""
        return asdict(self)


@dataclass(frozen=True)
class Total:
    """The whole model: shares weighted by products, and the SQNR of its output."""

    macs: int
    changed: float | None
    output_db: float | None
    energy: float | None

    def to_dict(self) -> dict[str, Any]:
        """The same by field name."""
        return asdict(self)


@dataclass(frozen=True)
class LayerTable:
    """The rows, in the order in which the operations first ran, and their total."""

    rows: tuple[LayerRow, ...]
    total: Total

    def __iter__(self) -> Iterator[LayerRow]:
        return iter(self.rows)

    def __len__(self) -> int:
        return len(self.rows)

    def __getitem__(self, key: str) -> LayerRow:
        for row in self.rows:
            if row.key == key:
                return row
        raise KeyError(key)

    def to_dict(self) -> dict[str, Any]:
        """The same as plain values."""
        return {"rows": [row.to_dict() for row in self.rows], "total": self.total.to_dict()}


def layers(model: nn.Module, batch: Any) -> LayerTable:
    """Measure every emulated operation of ``model`` (after ``dv.apply_``) on one batch of inputs.

    ``batch`` is a tensor, a tuple of positional arguments or a dict of keyword arguments. The
    model runs twice, in eval mode and without gradients; each module's mode is restored. What an
    operation that is called several times does is summed up in one row. Its ``accumulated_db`` is
    None if emulation changed how often, or on what shapes, it is called.

    >>> import dovetail as dv
    >>> model = nn.Sequential(nn.Linear(8, 4))
    >>> x = torch.linspace(-1, 1, 16).reshape(2, 8)
    >>> _ = dv.apply_(model, dv.Recipe(dv.rule(input="int8", weight="int8", mul="mul8s_1KVM")), x)
    >>> row = layers(model, x)["0"]
    >>> row.macs, row.arithmetic, row.rule
    (64, 'int8 × int8 by mul8s_1KVM@v2022', 'rule 1')
    """
    inputs, keywords = arguments(batch, device_of(model))
    references: dict[str, list[Tensor]] = {}
    tallies: dict[str, _Tally] = {}

    def remember(op: PlannedOp, call: Watched) -> None:
        references.setdefault(op.key, []).append(call.output)

    def measure(op: PlannedOp, call: Watched) -> None:
        known = references.get(op.key)
        tallies.setdefault(op.key, _Tally(op)).add(call, known.pop(0) if known else None)

    with mode(model, training=False), torch.no_grad():
        with exact(model), tap(model, remember):
            reference = model(*inputs, **keywords)
        with tap(model, measure):
            output = model(*inputs, **keywords)
    if not tallies:
        raise DovetailError(f"this {type(model).__name__} called no emulated operation")
    rows = tuple(tally.row() for tally in tallies.values())
    tensors = isinstance(output, Tensor) and isinstance(reference, Tensor)
    return LayerTable(
        rows,
        Total(
            macs=sum(row.macs for row in rows),
            changed=_share(tally.changed for tally in tallies.values()),
            output_db=sqnr_db(reference, output) if tensors else None,
            energy=mean_energy((row.energy, row.macs) for row in rows),
        ),
    )


@dataclass
class _Tally:
    """What is summed up over the calls of one operation."""

    op: PlannedOp
    macs: int = 0
    changed: Changed | None = None
    isolated: tuple[float, float] = (0.0, 0.0)
    accumulated: tuple[float, float] | None = field(default=(0.0, 0.0))

    def add(self, watched: Watched, reference: Tensor | None) -> None:
        self.isolated = _plus(self.isolated, powers(watched.exact(), watched.output))
        if reference is None or reference.shape != watched.output.shape:
            self.accumulated = None
        elif self.accumulated is not None:
            self.accumulated = _plus(self.accumulated, powers(reference, watched.output))
        if isinstance(watched, MacCall):
            self._add_products(watched)

    def _add_products(self, watched: MacCall) -> None:
        self.macs += watched.output.numel() * watched.call.reduction
        if self.multiplies_codes:
            a, w, pad_code = watched.codes()
            geometry = None if self.op.kind == "matmul" else watched.geometry
            count = changed_products(a, w, self.op.arithmetic.code_multiplier, geometry, pad_code)
            self.changed = count if self.changed is None else self.changed + count

    @property
    def multiplies_codes(self) -> bool:
        return KINDS[self.op.kind].is_product and self.op.arithmetic.multiplies_codes

    def row(self) -> LayerRow:
        arithmetic = self.op.arithmetic
        return LayerRow(
            key=self.op.key,
            kind=self.op.kind,
            module=self.op.module_type,
            arithmetic=_summary(arithmetic, KINDS[self.op.kind]),
            rule=_sources(rule.label for rule in self.op.origin.values()),
            macs=self.macs,
            changed=None if self.changed is None else self.changed.share,
            isolated_db=decibels(*self.isolated),
            accumulated_db=None if self.accumulated is None else decibels(*self.accumulated),
            energy=op_energy(self.op),
        )


def _plus(one: tuple[float, float], other: tuple[float, float]) -> tuple[float, float]:
    return one[0] + other[0], one[1] + other[1]


def shown(mul: Multiplier | FloatMultiplier) -> str:
    """What a reader calls ``mul``: its spelling, or the name of one whose spelling is a digest.

    >>> from dovetail.multipliers import multiplier
    >>> def halved(a, w): return a * w // 2 * 2
    >>> shown(multiplier("drum", k=6)), shown(multiplier(halved, bits=8))
    ('drum(k=6, bits=8, signed=True)', 'halved')
    """
    spelling = repr(mul)
    return mul.name if "(sha256:" in spelling else spelling


def _summary(arithmetic: Arithmetic, kind: Kind) -> str:
    """One line: operand formats, and what differs from exact after them."""
    if arithmetic.is_exact:
        return "exact"
    spelt = arithmetic.describe()
    if not kind.is_product:
        return ", ".join(f"{name} {text}" for name, text in spelt.items())
    if "mul" in spelt:
        spelt["mul"] = shown(arithmetic.mul)
    text = f"{spelt.get('input', 'float')} × {spelt.get('weight', 'float')}"
    if "sparsity" in spelt:
        text += f" kept {spelt['sparsity']}"
    for name, word in (("mul", "by"), ("acc", "in"), ("bias", "+"), ("output", "→")):
        if name in spelt:
            text += f" {word} {spelt[name]}"
    return text


def _sources(labels: Iterable[str]) -> str:
    """Where rules stand, each once; lines of one file share its name: ``digits.yaml:7, 9``."""
    shown, last = [], ""
    for label in dict.fromkeys(labels):
        file, colon, line = label.rpartition(":")
        shown.append(line if colon and file == last else label)
        last = file if colon else ""
    return ", ".join(shown)


def _share(counts: Iterable[Changed | None]) -> float | None:
    known = [count for count in counts if count is not None]
    return sum(known, Changed(0, 0)).share if known else None


def arguments(batch: Any, device: torch.device) -> tuple[tuple[Any, ...], dict[str, Any]]:
    """A batch as the positional and keyword arguments of a model, on its device."""

    def move(value: Any) -> Any:
        return value.to(device) if isinstance(value, Tensor) else value

    if isinstance(batch, dict):
        return (), {name: move(value) for name, value in batch.items()}
    return tuple(move(value) for value in (batch if isinstance(batch, tuple) else (batch,))), {}
