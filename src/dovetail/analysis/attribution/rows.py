"""What an attribution found: a row for every operation and source of error, and their totals."""

from __future__ import annotations

from dataclasses import asdict, dataclass
from typing import Any

__all__ = ["SOURCES", "AttributionRow", "Histogram", "OpSummary"]

#: Every source of error, in the order in which an operation meets them.
SOURCES = ("sparsity", "input", "weight", "bias", "mul", "acc", "fn", "output")


@dataclass(frozen=True)
class AttributionRow:
    """One source of error of one operation; ``None`` stands for what was not measured.

    ``value`` spells what the source is, such as ``int8``. Enabled alone, everything else exact:
    ``isolated_sqnr_db`` and ``isolated_cosine`` compare the operation's output with the exact one,
    ``accumulated_sqnr_db``, ``accumulated_cosine`` and ``accumulated_kl`` (nats, a mean over the
    targets) the model's output; ``delta_metric`` is what that changes in the metric, its confidence
    interval ``ci_low`` to ``ci_high``, ``delta_loss`` in the mean loss. The ``disabled_`` fields
    are what making this one source exact changes in the emulated model; ``with_sources`` are the
    others that go with it then.

    Of the ``values`` that the source cast (or the additions of an accumulator), ``saturated`` and
    ``overflows`` were counted; ``changed`` is the share of products that are not ``a * w``.
    """

    op: str
    kind: str
    source: str
    value: str
    isolated_sqnr_db: float | None
    accumulated_sqnr_db: float | None
    delta_metric: float
    ci_low: float | None
    ci_high: float | None
    delta_loss: float | None = None
    disabled_delta_metric: float | None = None
    disabled_ci_low: float | None = None
    disabled_ci_high: float | None = None
    disabled_delta_loss: float | None = None
    with_sources: tuple[str, ...] = ()
    isolated_cosine: float | None = None
    accumulated_cosine: float | None = None
    accumulated_kl: float | None = None
    values: int | None = None
    saturated: int | None = None
    overflows: int | None = None
    changed: float | None = None

    def to_dict(self) -> dict[str, Any]:
        """The same by field name."""
        return asdict(self)


@dataclass(frozen=True)
class OpSummary:
    """One operation with all its sources together.

    ``isolated_sqnr_db`` compares its output in the emulated model with the exact one of the same,
    already emulated, inputs; ``accumulated_sqnr_db`` with its output in the exact model. The other
    fields are as those of :class:`AttributionRow`, for all sources enabled, or disabled, at once.
    """

    op: str
    kind: str
    isolated_sqnr_db: float | None = None
    accumulated_sqnr_db: float | None = None
    delta_metric: float | None = None
    ci_low: float | None = None
    ci_high: float | None = None
    delta_loss: float | None = None
    disabled_delta_metric: float | None = None
    disabled_ci_low: float | None = None
    disabled_ci_high: float | None = None
    disabled_delta_loss: float | None = None

    def to_dict(self) -> dict[str, Any]:
        """The same by field name."""
        return asdict(self)


@dataclass(frozen=True)
class Histogram:
    """The values of one operand before its cast: ``counts[i]`` lie in ``edges[i]..edges[i + 1]``.

    ``low`` and ``high`` are the ends of the range of ``format``, where that is one number each.
    """

    op: str
    slot: str
    format: str | None
    edges: tuple[float, ...]
    counts: tuple[int, ...]
    low: float | None = None
    high: float | None = None

    def to_dict(self) -> dict[str, Any]:
        """The same by field name."""
        return asdict(self)
