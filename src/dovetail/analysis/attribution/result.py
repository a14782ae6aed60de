"""The whole of an attribution: rows, totals, a table, files."""

from __future__ import annotations

import csv
import io
import json
import math
from collections.abc import Iterator
from dataclasses import dataclass, fields, replace
from pathlib import Path
from typing import Any

from dovetail._files import target, write
from dovetail._plain import plain
from dovetail._text_table import Column, text_table
from dovetail.analysis.attribution.rows import SOURCES, AttributionRow, Histogram, OpSummary
from dovetail.errors import unknown

__all__ = ["Attribution", "check_order"]

#: What is summed up in totals.
_SUMMED = ("delta_metric", "delta_loss", "disabled_delta_metric", "disabled_delta_loss")


@dataclass(frozen=True)
class Attribution:
    """What every source of error of every operation costs; made by :func:`dovetail.attribute`.

    ``exact_metric`` and ``emulated_metric`` are those of the two whole models, on ``samples``
    samples; ``higher_is_better`` is ``None`` where only the metric's author knows. In the mode
    ``first_order`` the metric is the mean loss, and every change in it is predicted.
    """

    mode: str
    metric: str
    higher_is_better: bool | None
    samples: int
    exact_metric: float
    emulated_metric: float
    exact_loss: float | None
    emulated_loss: float | None
    rows: tuple[AttributionRow, ...]
    ops: tuple[OpSummary, ...]
    histograms: tuple[Histogram, ...] = ()
    confidence: float = 0.95
    resamples: int = 0
    seed: int = 0

    def __iter__(self) -> Iterator[AttributionRow]:
        return iter(self.rows)

    def __len__(self) -> int:
        return len(self.rows)

    def __getitem__(self, key: tuple[str, str]) -> AttributionRow:
        for row in self.rows:
            if (row.op, row.source) == key:
                return row
        raise KeyError(key)

    @property
    def by_op(self) -> dict[str, dict[str, Any]]:
        """For every operation the sums of its rows' changes (``delta_metric`` and the like), and
        as ``whole`` what its sources cost together."""
        return {
            summary.op: {
                "kind": summary.kind,
                **_sums([row for row in self.rows if row.op == summary.op]),
                "isolated_sqnr_db": summary.isolated_sqnr_db,
                "accumulated_sqnr_db": summary.accumulated_sqnr_db,
                "whole": {name: getattr(summary, name) for name in _SUMMED},
            }
            for summary in self.ops
        }

    @property
    def by_source(self) -> dict[str, dict[str, float | None]]:
        """For every source that occurs the sums of its rows' changes."""
        present = {row.source for row in self.rows}
        return {
            source: _sums([row for row in self.rows if row.source == source])
            for source in SOURCES
            if source in present
        }

    def sorted(self, by: str = "harm") -> Attribution:
        """The same with the rows in order: the most harmful first, or by a field, largest first.

        Harm is what ``delta_metric`` costs: a loss of accuracy, a gain of perplexity, any change
        where only the metric's author knows which is good. Rows without the field come last.
        """
        check_order(by)
        return replace(self, rows=tuple(sorted(self.rows, key=lambda row: self._place(row, by))))

    def _place(self, row: AttributionRow, by: str) -> Any:
        value = self._harm(row.delta_metric) if by == "harm" else getattr(row, by)
        if isinstance(value, (str, tuple)):
            return (0, value)
        if value is None or math.isnan(value):
            return (1, 0.0)
        return (0, -value)

    def _harm(self, delta: float) -> float:
        if self.higher_is_better is None:
            return abs(delta)
        return -delta if self.higher_is_better else delta

    def to_dict(self) -> dict[str, Any]:
        """JSON-ready values; infinities and NaN are the texts "inf", "-inf", "nan".

        ``histograms`` is by operation, then by operand.
        """
        histograms: dict[str, dict[str, Any]] = {}
        for found in self.histograms:
            histograms.setdefault(found.op, {})[found.slot] = found.to_dict()
        own = {f.name: getattr(self, f.name) for f in fields(self)}
        for name in ("rows", "ops", "histograms"):
            del own[name]
        result: dict[str, Any] = plain(
            {
                **own,
                "rows": [row.to_dict() for row in self.rows],
                "ops": [op.to_dict() for op in self.ops],
                "by_op": self.by_op,
                "by_source": self.by_source,
                "histograms": histograms,
            }
        )
        return result

    def save(self, path: str | Path) -> None:
        """Write the rows as ``.csv``, or all of :meth:`to_dict` as ``.json``."""
        place = target(path)
        if place.suffix == ".json":
            text = json.dumps(self.to_dict(), indent=1, allow_nan=False) + "\n"
        elif place.suffix == ".csv":
            text = self._csv()
        else:
            raise unknown("kind of file for an attribution", place.suffix, (".csv", ".json"))
        write({place: text})

    def _csv(self) -> str:
        out = io.StringIO()
        writer = csv.writer(out, lineterminator="\n")
        names = [f.name for f in fields(AttributionRow)]
        writer.writerow(names)
        for row in self.rows:
            writer.writerow([_cell(getattr(row, name)) for name in names])
        return out.getvalue()

    def table(self, width: int = 100) -> str:
        """A table of the rows, ``width`` characters wide, with the totals by source below, and what
        each operation's sources cost together.

        What goes ``with`` a source does so where it is disabled.
        """
        with_, alone, interval = "with", "SQNR dB\nalone", "interval"
        names = ("SQNR dB\noutput", self._changes(), interval, "disabled")
        columns = [
            Column("operation", 10),
            Column("source", 8),
            Column("value", 8),
            *(Column(name) for name in (alone, *names)),
            Column(with_, 7),
        ]
        for cells in self._lines():
            for column, cell in zip(columns, cells, strict=True):
                column.cells.append(cell)
        lines = [text_table(columns, width, (with_, alone, interval, "SQNR dB\noutput", "value"))]
        lines.append(
            f"{self.metric}: exact {self.exact_metric:.4g}, emulated {self.emulated_metric:.4g}"
            f" (n={self.samples})"
        )
        if self.metric == "accuracy" and any(_is_point(row) for row in self.rows):
            lines.append(
                "An interval that is one point: no sample changed, so at 95 % less than "
                f"{300 / self.samples:.2g} % of all do."
            )
        return "\n".join(lines) + "\n"

    def _lines(self) -> Iterator[tuple[str, ...]]:
        """The table's cells: rows, totals by source, and operations with all of their sources."""
        last = None
        for row in self.rows:
            yield (
                row.op if row.op != last else "",
                row.source,
                row.value,
                _decibels(row.isolated_sqnr_db),
                _decibels(row.accumulated_sqnr_db),
                _change(row.delta_metric),
                _interval(row.ci_low, row.ci_high),
                _change(row.disabled_delta_metric),
                " ".join(row.with_sources),
            )
            last = row.op
        for source, sums in self.by_source.items():
            delta, disabled = sums["delta_metric"], sums["disabled_delta_metric"]
            yield ("in all", source, "", "", "", _change(delta), "", _change(disabled), "")
        if any(op.delta_metric is not None for op in self.ops):
            for op in self.ops:
                yield (
                    op.op,
                    "together",
                    "",
                    _decibels(op.isolated_sqnr_db),
                    "",
                    _change(op.delta_metric),
                    _interval(op.ci_low, op.ci_high),
                    _change(op.disabled_delta_metric),
                    "",
                )

    def _changes(self) -> str:
        return f"{self.metric}\n{'predicted' if self.mode == 'first_order' else 'enabled'}"

    def __str__(self) -> str:
        return self.table()


def check_order(by: str) -> None:
    """Refuse what rows cannot be sorted by.

    >>> check_order("harms")
    Traceback (most recent call last):
    dovetail.errors.DovetailError: unknown field to sort by 'harms'; did you mean 'harm'? Known: ...
    """
    names = ["harm", *(f.name for f in fields(AttributionRow))]
    if by not in names:
        raise unknown("field to sort by", by, names)


def _sums(rows: list[AttributionRow]) -> dict[str, float | None]:
    """The sum of each change over the rows that have it; ``None`` if none has."""
    found: dict[str, float | None] = {}
    for name in _SUMMED:
        known = [value for row in rows if (value := getattr(row, name)) is not None]
        found[name] = math.fsum(known) if known else None
    return found


def _is_point(row: AttributionRow) -> bool:
    return row.ci_low == row.ci_high == 0


def _cell(value: Any) -> Any:
    if isinstance(value, tuple):
        return " ".join(value)
    return "" if value is None else value


def _decibels(value: float | None) -> str:
    if value is None or math.isnan(value):
        return "–"
    return "exact" if value == math.inf else f"{value:.1f}"


def _change(value: float | None) -> str:
    return "–" if value is None else f"{value:+.4f}"


def _interval(low: float | None, high: float | None) -> str:
    return "–" if low is None or high is None else f"{low:+.4f}..{high:+.4f}"
