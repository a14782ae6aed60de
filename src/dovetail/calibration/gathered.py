"""What calibration gathers of one tensor, and what it tells afterwards."""

from __future__ import annotations

from collections.abc import Iterable, Iterator
from dataclasses import dataclass, field, replace
from typing import TypeVar

from torch import Tensor

from dovetail._progress import progress
from dovetail.errors import DovetailError
from dovetail.formats import IntFormat
from dovetail.formats.observers import Observer
from dovetail.formats.observers import observer as make_observer

__all__ = ["Calibrated", "Calibration", "Gathered"]

T = TypeVar("T")


@dataclass(frozen=True)
class Calibrated:
    """The range that one slot of an operation got; of several channels, the widest ends."""

    op: str
    slot: str
    format: str
    observer: str
    low: float
    high: float


@dataclass
class Calibration:
    """A calibration while it runs, and once it has: ``ranges``, empty until then."""

    ranges: tuple[Calibrated, ...] = field(default=())

    def over(self, batches: Iterable[T]) -> Iterator[T]:
        """The batches; a bar on standard error shows how far they are, after two seconds.

        >>> list(Calibration().over([1, 2]))
        [1, 2]
        """
        return progress(batches, "calibrating")

    def __str__(self) -> str:
        rows = [("Operation", "Slot", "Format", "Observer", "Range")]
        rows += [
            (one.op, one.slot, one.format, one.observer, f"{one.low:.6g} .. {one.high:.6g}")
            for one in self.ranges
        ]
        widths = [max(map(len, column)) for column in zip(*rows, strict=True)]
        lines = ("  ".join(map(str.ljust, row, widths)).rstrip() for row in rows)
        return "\n".join(lines)


class Gathered:
    """An observer of one slot of an operation, along the axis that its format has channels on."""

    def __init__(self, key: str, slot: str, fmt: IntFormat, spec: str, observer: Observer) -> None:
        self.key, self.slot, self.format, self.spec = key, slot, fmt, spec
        self._observer, self._values = observer, 0
        self._found: tuple[Tensor, Tensor] | None = None

    @classmethod
    def of(cls, key: str, slot: str, fmt: IntFormat, default: str) -> Gathered:
        """With the format's own observer, or else the default one."""
        spec = fmt.observer or default
        return cls(key, slot, fmt, spec, make_observer(spec))

    def update(self, x: Tensor) -> None:
        """Take in one more tensor."""
        self._values = max(self._values, x.numel())
        self._observer.update(self._rows(x))

    def range(self, *, varied: bool) -> tuple[Tensor, Tensor]:
        """The range found, ``[]`` or one per channel; refused unless there is one.

        ``varied``: that of an input or output that was one number throughout is none.
        """
        low, high = self._observer.range(self.format)
        if self._values and bool((low > high).any()):
            where = "" if self.format.channel is None else ", in a channel"
            raise DovetailError(f"{self.key}: its {self.slot} was NaN throughout{where}")
        if not low.numel() or bool((low > high).any()):
            raise DovetailError(f"{self.key}: no calibration batch reached its {self.slot}")
        if not bool((low.isfinite() & high.isfinite()).all()):
            ends = f"{float(low.min())}..{float(high.max())}"
            raise DovetailError(f"{self.key}: its {self.slot} ranged over {ends}")
        # A second operand may be a constant of the model: a mask, a matrix of ones.
        varied = varied and self.slot in ("input", "output") and self._values > 1
        if varied and bool(low.min() == high.max()):
            raise DovetailError(
                f"{self.key}: its {self.slot} was {float(low.min()):g} throughout, from which no "
                "range follows; calibrate with batches like those it will see, or take a dynamic "
                f"range, '{replace(self.format, dynamic=True)}'"
            )
        self._found = low, high
        return (low, high) if self.format.channel is not None else (low[0], high[0])

    def calibrated(self) -> Calibrated:
        """What was found, to be told."""
        assert self._found is not None
        low, high = self._found
        ends = float(low.min()), float(high.max())
        return Calibrated(self.key, self.slot, str(self.format), self.spec, *ends)

    def _rows(self, x: Tensor) -> Tensor:
        axis = self.format.channel
        if axis is None:
            return x.reshape(1, -1)
        if not -x.dim() <= axis < x.dim():
            raise DovetailError(
                f"{self.key}: its {self.slot} has {x.dim()} dimensions, and '{self.format}' a "
                f"range for each index of axis {axis}"
            )
        return x.movedim(axis, 0).flatten(1) if x.dim() > 1 else x[:, None]
