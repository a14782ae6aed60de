"""What a training run found, as plain values."""

from __future__ import annotations

from dataclasses import asdict, dataclass
from typing import Any

__all__ = ["FitResult"]


@dataclass(frozen=True)
class FitResult:
    """What a training run did: the mean loss of each epoch, and how many optimizer steps it took.

    With ``evaluate``, ``metrics`` holds its value before training and after each epoch, ``exact``
    that of the model without emulation (asked for by ``budget``), and ``best`` the epoch whose
    weights the model has now (0: those it came with). ``stopped`` is true where the budget was
    met before the last epoch's end.

    >>> FitResult((0.5,), 3, 1e-3, None).to_dict()["losses"]
    [0.5]
    """

    losses: tuple[float, ...]
    steps: int
    lr: float
    seed: int | None
    metrics: tuple[float, ...] = ()
    exact: float | None = None
    best: int | None = None
    stopped: bool = False

    def to_dict(self) -> dict[str, Any]:
        """The same as plain values.

        >>> FitResult((), 0, 1e-3, None, (0.5, 0.75), best=1).to_dict()["metrics"]
        [0.5, 0.75]
        """
        return {
            name: list(value) if isinstance(value, tuple) else value
            for name, value in asdict(self).items()
        }
